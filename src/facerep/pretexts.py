"""The pretexts by name, and the questions that each is made of. Plain data: params.yaml is checked against it.

A pretext is one or more questions that are asked of each photograph together. A question is a class of facerep.pretrain, in
a file of its own: a new one is that file and a line here. Names joined by `+` ask all of their questions.

- rotated: Gidaris, Singh, Komodakis, "Unsupervised representation learning by predicting image rotations", ICLR 2018.
- grayscale: Zhang, Isola, Efros, "Colorful image colorization", ECCV 2016.
- simclr: Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020.
- rotated+simclr and the like: Dangovski et al., "Equivariant contrastive learning" (E-SSL), ICLR 2022.
- supervised: the names of the unlabelled identities, which the others never see: the upper reference.
- distillation: the features of a trained network (Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network",
  2015, of logits; Romero et al., "FitNets: hints for thin deep nets", ICLR 2015, of features).
"""

TURNS, COLORS, VIEWS, NAMES, TEACHER = "turns:Turns", "colors:Colors", "views:Views", "names:Names", "teacher:Teacher"

PRETEXTS: dict[str, tuple[str, ...]] = {
    "original": (),  # no pretext: the starting weights go straight to fine-tuning, the baseline
    "rotated": (TURNS,),
    "grayscale": (COLORS,),
    "rotated_grayscale": (TURNS, COLORS),
    "simclr": (VIEWS,),
    "supervised": (NAMES,),
    "distillation": (TEACHER,),
}


def questions_of(name: str) -> tuple[str, ...]:
    """The questions of a pretext, as `module:Class` below facerep.pretrain.

    Raises ValueError, with a sentence for the user, for a name that is not known.
    """
    parts = name.split("+")
    if any(part not in PRETEXTS for part in parts):
        raise ValueError(f"no such pretext; one of {', '.join(PRETEXTS)}, or several of these joined by +")
    order = [list(PRETEXTS).index(part) for part in parts]
    questions = [question for part in parts for question in PRETEXTS[part]]
    if len(parts) > 1 and (not all(PRETEXTS[part] for part in parts) or len(set(questions)) < len(questions)):
        raise ValueError("joins pretexts that ask nothing, or the same question twice")
    if order != sorted(order):
        raise ValueError(f"one name for one pretext: write {'+'.join(sorted(parts, key=list(PRETEXTS).index))}")
    return tuple(questions)
