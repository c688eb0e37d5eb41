"""What every learner keeps to, as functions that are given a learner."""

import inspect
from collections.abc import Iterable

import torch
from torch import Tensor

from datamodules.episode import Episode, Task
from modules import Learner
from modules.learner.classifier import Classifier

N_SUPPORT = 6


def check_states(learner: Learner, episode: Episode) -> None:
    """`adapt` yields a state after 0, 1, ..., `steps` steps; fewer steps give the first states of more."""
    last, n_tasks, n_support = learner.eval_inner_steps, len(episode.task_id), episode.task.x.shape[1]
    answers: list[Tensor] = []  # of all steps
    for steps in range(last, -1, -1):
        noise = learner.draw_noise(episode.task_id, n_support, steps)
        params = learner.variables(n_tasks)
        with torch.no_grad():
            states = list(learner.adapt(params, episode.task._replace(noise=noise), steps))
            outputs = [learner.predict(params, state, episode.query_x) for state in states]
        assert len(states) == steps + 1, f"{len(states)} states of {steps} steps"
        answers = answers or outputs
        for ours, of_more in zip(outputs, answers, strict=False):
            wanted = (*episode.query_x.shape[:2], episode.task.n_way)
            assert ours.shape[:2] == wanted[:2], f"predict gives {tuple(ours.shape)} in place of {wanted}"
            assert ours.shape[2] >= wanted[2], f"predict gives {tuple(ours.shape)} in place of {wanted}"
            torch.testing.assert_close(ours, of_more, rtol=1e-9, atol=1e-9)
    if last:
        assert not torch.equal(answers[0], answers[-1])


def check_arguments(learner: Learner) -> None:
    """A checkpoint keeps every argument of the constructor, so that the learner is made again as it was."""
    asked = inspect.signature(type(learner)).parameters.keys() - {"backbone"}
    assert asked <= learner.hparams.keys(), (
        f"save_hyperparameters() is missing: {sorted(asked - learner.hparams.keys())}"
    )


def check_every_parameter_learns(learner: Learner, episode: Episode) -> None:
    """Every parameter that is trained gets a gradient."""
    training = learner.training
    learner.train()
    gradients, _ = learner.outer_gradients(learner.variables(len(episode.task_id)), learner.with_noise(episode))
    trainable = learner.trainable(dict(learner.named_parameters()))
    without = [name for name in trainable if name not in gradients or not gradients[name].any()]
    learner.train(training)
    assert without == [], f"no gradient for {without}: read parameters from params"


def check_noise(learner: Learner) -> None:
    """`draw_noise` is a function of the task's number alone; more steps leave the numbers of the first ones."""
    assert list(inspect.signature(learner.draw_noise).parameters) == ["task_id", "n_support", "steps"]
    numbers, drawn = torch.tensor([4, 0, 7, 2, 11]), torch.random.get_rng_state()
    for training in (True, False):
        learner.train(training)
        noise = learner.draw_noise(numbers, N_SUPPORT, 2)
        assert isinstance(noise, Tensor)
        assert len(noise) == len(numbers)
        assert torch.equal(learner.draw_noise(numbers, N_SUPPORT, 2), noise)
        for place, number in enumerate(numbers):
            assert torch.equal(learner.draw_noise(number[None], N_SUPPORT, 2)[0], noise[place])
        assert torch.equal(learner.draw_noise(numbers.flip(0), N_SUPPORT, 2), noise.flip(0))
    assert torch.equal(torch.random.get_rng_state(), drawn)
    few, many = (learner.draw_noise(torch.arange(5), N_SUPPORT, steps) for steps in (2, 5))
    assert few.shape[1] == many.shape[1] == 0 or few.shape[1] < many.shape[1]
    assert torch.equal(few, many[:, : few.shape[1]])


def check_buffers(learner: Learner, n_tasks: int = 3) -> None:
    """Buffers and parameters have one shape, in training and in evaluation; of T tasks (T, *shape)."""
    shapes = []
    for training in (True, False, True):
        learner.train(training)
        variables, updated = learner.variables(n_tasks), learner.updated_buffers()
        own = {name: value.shape for name, value in learner.state_dict().items()}
        assert {name: (n_tasks, *own[name]) for name in updated} == {name: variables[name].shape for name in updated}
        shapes.append(own)
    assert shapes[0] == shapes[1] == shapes[2]


def check_other_queries_change_nothing(learner: Learner, support: Task, queries: Tensor) -> None:
    """A classifier's answers are the same for queries in another order, twice, and asked in parts."""
    classifier = Classifier(learner, support)
    answers = classifier.logits(queries)
    order = torch.randperm(queries.shape[1], generator=torch.Generator().manual_seed(0))
    assert torch.equal(classifier.logits(queries), answers)
    torch.testing.assert_close(classifier.logits(queries[:, order]), answers[:, order], rtol=1e-6, atol=1e-6)
    twice = classifier.logits(queries.repeat_interleave(2, dim=1))
    torch.testing.assert_close(twice, answers.repeat_interleave(2, dim=1), rtol=1e-6, atol=1e-6)
    for size in (1, 5):
        parts = torch.cat([classifier.logits(part) for part in queries.split(size, dim=1)], dim=1)
        torch.testing.assert_close(parts, answers, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(classifier(queries).sum(-1), torch.ones(1, queries.shape[1]))


def check_queries_at_once(learner: Learner, support: Task, queries: Tensor) -> None:
    """A classifier's answers are those of its queries one by one, each in one batch with the support set if need be."""
    classifier = Classifier(learner, support)
    expected = []
    for query in queries.unbind(1):
        batch = torch.cat([support.x, query.unsqueeze(1)], dim=1) if learner.sees_other_queries else query.unsqueeze(1)
        with torch.no_grad():
            expected.append(learner.predict(classifier.params, classifier.state, batch)[:, -1])
    torch.testing.assert_close(classifier.logits(queries), torch.stack(expected, 1).float(), rtol=1e-5, atol=1e-5)


def check_tasks_at_once(learner: Learner, episode: Episode) -> None:
    """Several tasks are answered as each alone."""
    together = Classifier(learner, episode.task).logits(episode.query_x)
    for t in range(len(episode.task_id)):
        task = episode.tasks(t, t + 1)
        alone = Classifier(learner, task.task).logits(task.query_x)
        torch.testing.assert_close(together[t : t + 1], alone, rtol=1e-4, atol=1e-4)


def check_finite_answers(learner: Learner, tasks: Iterable[Episode]) -> None:
    """A classifier of each of these tasks answers with a probability for each class."""
    for episode in tasks:
        answers = Classifier(learner, episode.task)(episode.query_x)
        assert answers.shape == (*episode.query_y.shape, episode.task.n_way)
        torch.testing.assert_close(answers.sum(-1), torch.ones(episode.query_y.shape))
