"""A method as a Trainer evaluates it: over chunks of tasks, by one protocol or both, the same way for every method."""

import torch
from torch import Tensor, nn

from datamodules.episode import Episode, Support
from modules.classifier import Classifier
from modules.evaluation import TaskScores, score_names, score_tasks
from modules.inference_mode import outside_inference_mode
from modules.method import Method
from modules.newest_classifier import NewestClassifier
from modules.outer_loop import OuterLoop
from modules.task_chunks import TaskChunks, chunk_for, strategy_for
from modules.trainer_check import check_episode


class EvaluatedMethod(Method):
    """Validates, tests and asks a method, and decides how its tasks are computed.

    Args:
        network: The network that a method trains.
        outer: The outer loop's settings.
    """

    def __init__(self, network: nn.Module, outer: OuterLoop) -> None:
        super().__init__(network, outer)
        self.temperature = 1.0  # what `predict` divides logits by, so that its answers are as sure as they should be
        self._newest_classifier = NewestClassifier(self)
        self._chunks = TaskChunks(say=self._say)  # of training
        self._evaluation_chunks = TaskChunks(say=self._say)
        self._layout_is_kept = False  # by training, or by a checkpoint: another way of computing sums in another order

    @property
    def task_chunk(self) -> int | None:
        """Tasks computed at once in training; None before the first episode."""
        return self._chunks.size

    def classifier(self, support: Support, n_way: int) -> Classifier:
        """Adapts to T tasks and gives their classifier; its answer for an image depends on no other query."""
        return Classifier(self, support, n_way, self.temperature)

    def _lay_out(self, chunks: TaskChunks, episode: Episode) -> None:
        """Decides at the first episode how tasks are computed, as far as no setting and no checkpoint says it."""
        if chunks.size is None:
            chunks.size = chunk_for(self, episode)
            if self.outer.task_strategy == "auto" and not self._layout_is_kept:
                self._chosen_strategy = strategy_for(self, episode, chunks.size)
                self._layout_is_kept = chunks is self._chunks

    def _say(self, line: str) -> None:
        say = print if self._trainer is None else self.print
        say(line)

    # ---- Lightning
    @outside_inference_mode
    def on_validation_epoch_start(self) -> None:
        """Starts the means of a validation."""
        self._scores = TaskScores(score_names(self, both_protocols=False), self.device)

    @outside_inference_mode
    def validation_step(self, episode: Episode, batch_idx: int) -> None:
        """Scores T validation tasks."""
        self._score(episode, both_protocols=False)

    def on_validation_epoch_end(self) -> None:
        """Logs `val/accuracy`, `val/ci95`, `val/loss` and the adaptation curve."""
        self.log_dict(self._scores.compute("val", (self.objective.score_name,)), prog_bar=True)

    def _score(self, episode: Episode, both_protocols: bool) -> None:
        episode = self.embedded(episode)
        self._lay_out(self._evaluation_chunks, episode)
        for scores, _ in self._evaluation_chunks(lambda tasks: score_tasks(self, tasks, both_protocols), episode):
            self._scores.update(scores)

    @outside_inference_mode
    def on_test_epoch_start(self) -> None:
        """Starts the means of a test."""
        self._scores = TaskScores(score_names(self, both_protocols=True), self.device)

    @outside_inference_mode
    def test_step(self, episode: Episode, batch_idx: int) -> None:
        """Scores T test tasks by both protocols where they differ."""
        self._score(episode, both_protocols=True)

    def on_test_epoch_end(self) -> None:
        """Logs `test/accuracy`, `test/ci95`, ..., and both protocols' accuracy and interval where they differ."""
        score = self.objective.score_name
        self.log_dict(self._scores.compute("test", (score, f"{score}_transductive", f"{score}_inductive")))

    @outside_inference_mode
    def predict_step(self, episode: Episode, batch_idx: int) -> dict[str, Tensor]:
        """Answers the queries of T tasks, inductively; a single task's may come in several batches.

        Returns:
            "task_id" (T,), "class_id" (T, n_way), "query_y" (T, Q) and "answers" (T, Q, n_way): the classes'
            probabilities, or in regression the value.
        """
        check_episode(episode)
        self._lay_out(self._evaluation_chunks, episode)
        chunks = self._evaluation_chunks(self._newest_classifier, episode)
        fields = {"task_id": episode.task_id, "class_id": episode.class_id, "query_y": episode.query_y}
        return fields | {"answers": torch.cat([answers for answers, _ in chunks])}

    def on_predict_end(self) -> None:
        """Drops the last task's classifier."""
        self._newest_classifier.forget()
