"""model_card.md: what an exported classifier is, how well its kind does, how to call it, and its limits."""

from dataclasses import dataclass
from typing import Any

import torch

from app.runs.results import readable, versions, with_interval

TRAINING_ARGUMENTS = ("n_way", "k_shot", "n_query", "meta_batch_size", "seed")

FILTERS = {
    "squash": "squeezed to {height} x {width} pixels, whatever its aspect,",
    "crop": "cut to its largest centred part of {width} : {height} and brought to {height} x {width} pixels,",
}


@dataclass(frozen=True)
class CardFacts:
    """What a card states.

    Args:
        checkpoint: The checkpoint's path.
        method: The learner's class.
        global_step: Outer steps of training.
        data: The class of the data that it was trained on.
        training: Arguments of that data and their values, of which a card names the task's size.
        results: results.json of the checkpoint's run; None where there is none.
        class_names: The classes, in the order of the probabilities.
        class_sizes: Support images of each.
        input_spec: What images are turned into, as checkpoints carry it.
        temperature: What the logits are divided by.
        unsure_below: The probability below which an answer is unsure; None: not known.
        likeness: What is known of images unlike the training data, in sentences.
        calibration: Where the temperature and the threshold come from, in a sentence.
    """

    checkpoint: str
    method: str
    global_step: int
    data: str
    training: dict[str, Any]
    results: dict[str, Any] | None
    class_names: tuple[str, ...]
    class_sizes: tuple[int, ...]
    input_spec: dict[str, Any]
    temperature: float = 1.0
    unsure_below: float | None = None
    likeness: str = "It was not measured how far from the training data an image may be."
    calibration: str = "Not calibrated: how sure an answer is was not compared with how often it is right."


def model_card(facts: CardFacts, differences: dict[str, float]) -> str:
    """The card as Markdown.

    Args:
        facts: What it states.
        differences: For each file the largest difference in probabilities from PyTorch that its check found.
    """
    n_way = len(facts.class_names)
    sections = {
        f"{facts.method}: a classifier of {n_way} classes": _introduction(facts),
        "Classes": _table(("output", "class", "support images"), _class_rows(facts)),
        "Training": _training(facts),
        "Accuracy": _accuracy(facts),
        "Unsure answers": _unsure(facts),
        "Preprocessing": _preprocessing(facts.input_spec),
        "Use": _use(facts),
        "Limits": _limits(facts),
        "Files": _files(differences),
    }
    parts = [f"{'##' if number else '#'} {title}\n\n{text}" for number, (title, text) in enumerate(sections.items())]
    return "\n\n".join(parts) + "\n"


def _introduction(facts: CardFacts) -> str:
    return (
        f"Quickstudy's {facts.method} from the checkpoint `{facts.checkpoint}`, adapted to "
        f"{sum(facts.class_sizes)} support images. An image's answer does not depend on the other images of its batch."
    )


def _class_rows(facts: CardFacts) -> list[tuple[str, str, str]]:
    sizes = zip(facts.class_names, facts.class_sizes, strict=True)
    return [(str(number), _escaped(name), str(size)) for number, (name, size) in enumerate(sizes)]


def _training(facts: CardFacts) -> str:
    size = ", ".join(f"{name} = {facts.training[name]}" for name in TRAINING_ARGUMENTS if name in facts.training)
    return f"Trained on {facts.data} for {facts.global_step:,} outer steps" + (f" ({size})." if size else ".")


def _accuracy(facts: CardFacts) -> str:
    results = facts.results
    if results is None:
        return f"Not measured: `python train.py test --ckpt_path {facts.checkpoint}` measures it on the test tasks."
    protocol = results["protocol"]
    lines = [f"- {readable(results)}"]
    if "accuracy_inductive" in results and protocol.get("transductive"):
        figure = with_interval(results, "_inductive")
        lines.append(f"- This classifier answers inductively: of the two it is the inductive figure, {figure}.")
    measured = results.get("checkpoint")
    if measured and measured.rpartition("/")[2] != facts.checkpoint.rpartition("/")[2]:
        lines.append(f"- Measured with another checkpoint of the run, `{measured}`.")
    stated = ", ".join(f"{name} = {value}" for name, value in protocol.items())
    interval = "" if results.get("ci95") is None else f"; 95% interval over {results['n_tasks']:,} tasks"
    lines.append(f"- Protocol: {stated}{interval}.")
    lines.append("- On the classes above nothing was measured: they are not those of the test tasks.")
    return "\n".join(lines)


def _unsure(facts: CardFacts) -> str:
    if facts.unsure_below is None:
        rule = "No threshold is given."
    else:
        rule = f"Call an answer unsure where its largest probability is below {facts.unsure_below:.4f}."
    temperature = f"The logits are divided by a temperature of {facts.temperature:.4f}."
    return f"{rule} {facts.calibration} {temperature}\n\n{facts.likeness}"


def _filter(spec: dict[str, Any]) -> str:
    name = spec.get("filter", "bilinear")
    return "choice of the nearest pixel" if name == "nearest" else f"antialiased {name} filter"


def _preprocessing(spec: dict[str, Any]) -> str:
    channels, height, width = spec["image_shape"]
    fit = FILTERS[spec.get("fit", "squash")].format(height=height, width=width)
    steps = [
        "Inside the files; give them decoded images as they are: RGB, 8 bits, upright, transparent parts made white.",
        "",
        f"1. {'Made grey by ITU-R 601-2.' if channels == 1 else 'Left in colour.'}",
        f"2. Each image is {fit} as by Pillow's {_filter(spec)}.",
    ]
    if spec.get("ink"):
        steps.append("3. Inverted where its border is light: the network wants light strokes on dark.")
    steps.append(f"{len(steps) - 1}. Scaled: {spec.get('scaling', 'uint8 / 255')}.")
    steps += [
        "",
        "`predict` does the same, but decodes large JPEG files at a fraction of their size first.",
    ]
    return "\n".join(steps)


def _use(facts: CardFacts) -> str:
    return f"""`images` is uint8 (batch, 3, height, width), any batch and any size, the same size within a batch;
`probabilities` is float32 (batch, {len(facts.class_names)}).

```python
import json, numpy as np, onnxruntime
from PIL import Image
images = np.asarray(Image.open("image.jpg").convert("RGB")).transpose(2, 0, 1)[None]
(probabilities,) = onnxruntime.InferenceSession("classifier.onnx").run(None, {{"images": images}})
print(json.load(open("classes.json"))["classes"][probabilities[0].argmax()], probabilities[0].max())
```

```python
import json, numpy as np, torch
from PIL import Image
images = torch.from_numpy(np.array(Image.open("image.jpg").convert("RGB"))).permute(2, 0, 1)[None]
probabilities = torch.export.load("classifier.pt2").module()(images)
print(json.load(open("classes.json"))["classes"][probabilities[0].argmax()], probabilities[0].max().item())
```"""


def _limits(facts: CardFacts) -> str:
    return "\n".join(
        [
            f"- It knows these {len(facts.class_names)} classes only, and names one of them for any image whatever.",
            f"- It was trained on {facts.data}: images unlike those, or classes that differ otherwise, may do worse "
            "than the accuracy above.",
            "- A few support images decide everything: a wrong or odd one among them shows in all answers.",
            "- Large photographs take time and memory (24 bytes a pixel and more): halve them first where that hurts.",
            "- For other classes export again; nothing is learned from the images that are asked about.",
        ]
    )


def _files(differences: dict[str, float]) -> str:
    rows = [(f"`{name}`", f"{value:.1e}") for name, value in differences.items()]
    made = {**versions(), "torch": torch.__version__}
    stated = ", ".join(f"{name} {version}" for name, version in made.items() if version)
    table = _table(("file", "largest difference from PyTorch"), rows)
    return f"{table}\n\nWritten with {stated}. `classes.json` holds the names in the order of the probabilities."


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
