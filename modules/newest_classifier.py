"""The classifier of the newest task, kept while a single task's queries come in several batches."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datamodules.episode import Episode, Support
from modules.classifier import Classifier

if TYPE_CHECKING:
    from modules.evaluated_method import EvaluatedMethod


class NewestClassifier:
    """Answers queries by a learner's classifiers, and makes each only once.

    Args:
        learner: The learner.
    """

    def __init__(self, learner: "EvaluatedMethod") -> None:
        self._learner = learner
        self.forget()

    def forget(self) -> None:
        """Drops the classifier, and the memory that it takes."""
        self._classifier: Classifier | None = None
        self._support: Support | None = None
        self._state: object = None

    def __call__(self, tasks: Episode) -> Tensor:
        """To each task's queries (T, Q, n_way), by the classifier made last where it is of the same single task.

        It is made anew where weights, buffers or temperature have changed since.
        """
        support, embedded = tasks.support, self._learner.embedded(tasks)
        if self._classifier is None or not self._is_of(support):
            self.forget()
            classifier = self._learner.classifier(embedded.support, tasks.class_id.shape[1])
            self._classifier, self._support, self._state = classifier, support, self._learner_state()
        return self._classifier(embedded.query_x)

    def _is_of(self, support: Support) -> bool:
        assert self._support is not None
        same_task = len(support.x) == 1 and all(map(torch.equal, self._support, support))
        return same_task and self._state == self._learner_state()

    def _learner_state(self) -> object:
        """Returns a value that is another one after every change or replacement of a weight or a buffer."""
        versions = [(v.data_ptr(), 0 if v.is_inference() else v._version) for v in self._learner.variables().values()]
        return versions, self._learner.temperature
