"""Every learner says in its docstring how far it has been checked."""

import re

from modules import Learner
from tests.every_learner import every

CHECKED = re.compile(r"^    Checked:\n        (reproduced|reference|runs)(: .+)?\.?$", re.MULTILINE)


@every()
def test_a_learner_says_how_far_it_has_been_checked(kind: type[Learner]) -> None:
    """Reproduced: a paper's interval is reached; reference: equal to an independent computation; or it runs."""
    assert kind.__doc__ is not None
    assert CHECKED.search(kind.__doc__), kind.__name__
