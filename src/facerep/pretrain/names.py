"""Names: whose face is it? The upper reference: the other questions do not see the names of the unlabelled identities."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from facerep.pretrain.question import Pooled, Question, Shown


class Names(Question):
    """The answer is float32 B×identities; the truth int64 B."""

    name = "names"
    needs_names = True

    def head(self, widths: Sequence[int], identities: int) -> nn.Module:
        """A linear layer on the pooled features, to the identities."""
        return Pooled(nn.Linear(widths[-1], identities))

    def ask(self, shown: Shown) -> Tensor:
        """The photographs as they are, and the identities, once for each view."""
        return shown.names.repeat(len(shown.inputs[self.input]) // max(1, len(shown.samples)))

    def losses(self, answer: Tensor, truth: Tensor) -> Tensor:
        """Cross-entropy."""
        return cross_entropy(answer.float(), truth, reduction="none")

    def scores(self, answer: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """`accuracy` of the name."""
        return {"accuracy": (answer.argmax(1) == truth).float()}
