"""A method as a Trainer evaluates it: over chunks of tasks, by one protocol or both, the same way for every method."""

import torch
from torch import Tensor, nn

from datamodules.episode import Episode, Task
from modules.functional.tasks.layout import choose_chunk
from modules.functional.tasks.networks import Variables
from modules.learner.classifier import Classifier
from modules.learner.evaluation import scores_of_states
from modules.learner.inference_mode import ordinary, outside_inference_mode
from modules.learner.method import Method
from modules.learner.newest_classifier import NewestClassifier
from modules.learner.outer_loop import OuterLoop
from modules.learner.scores import MeanScore, Score, TaskScores, logged
from modules.learner.task_chunks import TaskChunks, choose_strategy, passes_of_one_task
from modules.learner.trainer_check import check_episode


class EvaluatedMethod(Method):
    """Validates, tests and asks a method, and decides how its tasks are computed.

    Args:
        network: The network that a method trains.
        outer: The outer loop's settings.
    """

    def __init__(self, network: nn.Module, outer: OuterLoop) -> None:
        super().__init__(network, outer)
        self.temperature = 1.0  # what `predict` divides logits by, so that its answers are as sure as they should be
        self._newest_classifier = NewestClassifier()
        self._chunks = TaskChunks(say=self._say)  # of training
        self._evaluation_chunks = TaskChunks(say=self._say)
        self.mean_scores: dict[str, list[MeanScore]] = {}  # of the newest "val" and "test", over all ranks
        self.task_scores: tuple[list[int], dict[str, list[float]]] = ([], {})  # of the newest test: see `TaskScores`
        self._layout_is_kept = False  # by training, or by a checkpoint: another way of computing sums in another order

    @property
    def task_chunk(self) -> int | None:
        """Tasks computed at once in training; None before the first episode."""
        return self._chunks.size

    def classifier(self, task: Task) -> Classifier:
        """Adapts to T tasks and gives their classifier; its answer for an image depends on no other query."""
        return Classifier(self, task, self.temperature)

    def scores(self, params: Variables, episode: Episode, both_protocols: bool = False) -> dict[Score, Tensor]:
        """Scores T held-out tasks; the default adapts to them, predicts, and scores that as the objective says.

        A method of another measure overrides this, e.g. one that is scored at a class's k-th instance.

        Args:
            params: Meta-parameters and buffers.
            episode: T tasks with their noise.
            both_protocols: Whether queries are scored both together and one by one, as in a test.

        Returns:
            score -> (T,); the objective's score and Score("loss") are among them.
        """
        return scores_of_states(self, params, episode, both_protocols)

    def _lay_out(self, chunks: TaskChunks, episode: Episode) -> None:
        """Decides at the first episode how tasks are computed, as far as no setting and no checkpoint says it."""
        if chunks.size is None:
            n_tasks, first = len(episode.task_id), self.with_noise(self.embedded(episode.tasks(0, 1)))
            passes = passes_of_one_task(self, first)
            chunks.size = self.outer.task_chunk or choose_chunk(n_tasks, passes.features, episode.query_x.device.type)
            if self.outer.task_strategy == "auto" and not self._layout_is_kept:
                self._chosen_strategy = choose_strategy(passes, min(chunks.size, n_tasks))
                self._layout_is_kept = chunks is self._chunks

    def _say(self, line: str) -> None:
        say = print if self._trainer is None else self.print
        say(line)

    # ---- Lightning
    @outside_inference_mode
    def on_validation_epoch_start(self) -> None:
        """Starts the means of a validation."""
        self._scores = TaskScores(self.device)

    @outside_inference_mode
    def validation_step(self, episode: Episode, batch_idx: int) -> None:
        """Scores T validation tasks."""
        self._score(episode, both_protocols=False)

    def on_validation_epoch_end(self) -> None:
        """Logs `val/accuracy`, `val/ci95`, `val/loss` and the adaptation curve."""
        self._log_scores("val", prog_bar=True)

    def _score(self, episode: Episode, both_protocols: bool) -> None:
        def score(tasks: Episode) -> dict[Score, Tensor]:
            params = ordinary(self.variables(len(tasks.task_id)))
            return self.scores(params, self.with_noise(tasks), both_protocols)

        episode, start = self.embedded(episode), 0
        self._lay_out(self._evaluation_chunks, episode)
        for scores, _ in self._evaluation_chunks(score, episode):
            stop = start + len(next(iter(scores.values())))
            self._scores.update(episode.task_id[start:stop], scores)
            start = stop

    def _log_scores(self, prefix: str, prog_bar: bool = False) -> None:
        self.mean_scores[prefix] = means = self._scores.means()
        self.log_dict(logged(prefix, means, self.objective.score_name, self.device), prog_bar=prog_bar)

    @outside_inference_mode
    def on_test_epoch_start(self) -> None:
        """Starts the means of a test."""
        self._scores = TaskScores(self.device)

    @outside_inference_mode
    def test_step(self, episode: Episode, batch_idx: int) -> None:
        """Scores T test tasks by both protocols where they differ."""
        self._score(episode, both_protocols=True)

    def on_test_epoch_end(self) -> None:
        """Logs `test/accuracy`, `test/ci95`, ..., and both protocols' accuracy and interval where they differ."""
        self._log_scores("test")
        self.task_scores = self._scores.of_tasks()

    @outside_inference_mode
    def predict_step(self, episode: Episode, batch_idx: int) -> dict[str, Tensor]:
        """Answers the queries of T tasks, inductively; a single task's may come in several batches.

        Returns:
            "task_id" (T,), "class_id" (T, n_way), "query_y" (T, Q) and "answers" (T, Q, n_way): the classes'
            probabilities, or in regression the value.
        """
        check_episode(episode)
        self.eval()
        self._lay_out(self._evaluation_chunks, episode)

        def answer(tasks: Episode) -> Tensor:
            return self._newest_classifier(self, self.classifier, self.temperature, tasks)

        chunks = self._evaluation_chunks(answer, episode)
        fields = {"task_id": episode.task_id, "class_id": episode.task.classes, "query_y": episode.query_y}
        return fields | {"answers": torch.cat([answers for answers, _ in chunks])}

    def on_predict_end(self) -> None:
        """Drops the last task's classifier."""
        self._newest_classifier.forget()
