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
    questions = [question for part in parts for question in PRETEXTS[part]]
    if len(parts) > 1 and (not all(PRETEXTS[part] for part in parts) or len(set(questions)) < len(questions)):
        raise ValueError("joins pretexts that ask nothing, or the same question twice")
    if name != (known := _name_of(questions)) and questions:
        raise ValueError(f"one name for one pretext: write {known}")
    return tuple(questions)


def _name_of(questions: list[str]) -> str:
    """The fewest pretexts that ask these questions, in the order above."""
    left, names = set(questions), []
    for name in sorted(PRETEXTS, key=lambda name: -len(PRETEXTS[name])):
        if PRETEXTS[name] and left.issuperset(PRETEXTS[name]):
            left -= set(PRETEXTS[name])
            names.append(name)
    return "+".join(sorted(names, key=list(PRETEXTS).index))
