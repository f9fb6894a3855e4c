"""From a recipe's data to rows: reading, choosing the template, encoding, fitting, holding out, packing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from gemcut.checkpoint import Checkpoint, open_checkpoint
from gemcut.errors import DataError, TemplateError, UsageError
from gemcut.files import sha256_of
from gemcut.generate.load import is_instruction_tuned, tokenizer_of
from gemcut.hub import resolve_whole
from gemcut.text import ChatTemplate, Tokenizer, chat_template_for
from gemcut.tune.batches import Batches
from gemcut.tune.fitting import Changed, Fitting
from gemcut.tune.held_out import split, without_twins
from gemcut.tune.packing import Rows, one_each, pack, rounded
from gemcut.tune.recipe import Recipe
from gemcut.tune.record_formats import Conversation, Example, RecordFormat, detect
from gemcut.tune.records import find_data, read_records
from gemcut.tune.samples import Sample, SampleMaker

STANDARD_LENGTH = 1024
_MAX_LISTED = 5  # in an error; the report lists all
Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class ModelText:
    """What of a model decides how text becomes token ids.

    Attributes:
        name: Its reference.
        tokenizer: Its tokenizer.
        template: Its chat template, or the built-in one of its family; None where there is none.
        is_instruction_tuned: Whether it was trained to chat.
        context: Tokens of a text, at most.
    """

    name: str
    tokenizer: Tokenizer
    template: ChatTemplate | None
    is_instruction_tuned: bool
    context: int

    @classmethod
    def of(cls, checkpoint: Checkpoint, reference: str) -> ModelText:
        """That of an open checkpoint, which its user calls `reference`."""
        tokenizer = tokenizer_of(checkpoint)
        template = chat_template_for(tokenizer, checkpoint.config.model_type, where=checkpoint.path.name)
        is_tuned = is_instruction_tuned(reference, template)
        return cls(reference, tokenizer, template, is_tuned, checkpoint.config.max_position_embeddings)

    @classmethod
    def load(cls, reference: str) -> ModelText:
        """That of a model on this machine; no weight is read.

        Raises:
            NotFoundError: the model is not on this machine.
            CheckpointError, ConfigError, TokenizerError: its files are damaged.
        """
        with open_checkpoint(resolve_whole(reference)) as checkpoint:
            return cls.of(checkpoint, reference)


@dataclasses.dataclass(frozen=True)
class DataFile:
    """A file that was read: where, how, how much; its SHA-256, None for a folder."""

    path: str
    format: RecordFormat
    num_records: int
    sha256: str | None


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The data of a run, ready to train on.

    Attributes:
        recipe: The recipe, its sequence length decided.
        model: The model's text side.
        files, held_out_files: What was read.
        template: The chat template that was used, None for plain text.
        samples, held_out_samples: In the order of the files.
        rows: What is trained on.
        held_out: What is evaluated on; None where nothing is held out.
        changed: Samples that were cut or left out.
        num_apart: Pairs that were encoded apart, see `SampleMaker`.
        num_unlearnt_turns: Earlier turns of the assistant that `loss_on: completion` leaves out.
    """

    recipe: Recipe
    model: ModelText
    files: tuple[DataFile, ...]
    held_out_files: tuple[DataFile, ...]
    template: ChatTemplate | None
    samples: tuple[Sample, ...]
    held_out_samples: tuple[Sample, ...]
    rows: Rows
    held_out: Rows | None
    changed: Changed
    num_apart: int
    num_unlearnt_turns: int

    def batches(self) -> Batches:
        """The steps of training, from the first on."""
        recipe = self.recipe
        return Batches(
            self.rows,
            batch_size=recipe.batch_size,
            accumulation=recipe.accumulation,
            seed=recipe.seed,
            epochs=recipe.epochs,
            steps=recipe.steps,
        )

    def held_out_batches(self) -> Batches | None:
        """One pass over what is held out, in the order of its rows, a micro-batch a step; None without."""
        if self.held_out is None:
            return None
        return Batches(self.held_out, batch_size=self.recipe.batch_size, shuffle=False)


def prepare(recipe: Recipe, model: ModelText, progress: Progress | None = None) -> TrainingData:
    """Read, check, encode, hold out and pack a recipe's data.

    Args:
        recipe: The recipe.
        model: The text side of its model.
        progress: Called with what is being done, how much of it is done, and of how much.

    Raises:
        NotFoundError: a file is missing.
        DataError: a file or a record cannot be used, or a sample is too long or empty and the recipe does not say what
            becomes of such; all that are found are counted, the first named with their lines.
        TemplateError: conversations, but no chat template.
        UsageError: the sequence length is above the model's context, or a mapping makes no sense.
    """
    tell = progress or (lambda *_: None)
    length = sequence_length_of(recipe, model)
    recipe = dataclasses.replace(recipe, samples=dataclasses.replace(recipe.samples, sequence_length=length))
    settings = recipe.samples
    files, examples = _read(recipe, recipe.data, settings.limit)
    other_files, others = _read(recipe, (recipe.evaluation.data,) if recipe.evaluation.data else (), None)
    template = choose_template(recipe, model, [*examples, *others])
    every_turn = settings.loss_on == "assistant"
    maker = SampleMaker(model.tokenizer, template, system=settings.system, every_turn=every_turn)
    fitting = Fitting(length, overlong=settings.overlong, empty=settings.empty)
    samples = fitting.of(_made(maker, examples, tell))
    if recipe.evaluation.data:
        held_out = fitting.of(_made(maker, others, tell))
        samples, twins = without_twins(samples, held_out)
    else:
        samples, held_out = split(samples, recipe.evaluation.share, recipe.seed)
        twins = []
    if not samples:
        raise DataError(f"{', '.join(recipe.data)}: no sample is left to train on. See --overlong and --empty.")
    lay = _packed if settings.packing else one_each
    return TrainingData(
        recipe=recipe,
        model=model,
        files=files,
        held_out_files=other_files,
        template=template,
        samples=tuple(samples),
        held_out_samples=tuple(held_out),
        rows=lay(samples, length),
        held_out=lay(held_out, length) if held_out else None,
        changed=fitting.changed(twins),
        num_apart=maker.num_apart,
        num_unlearnt_turns=0 if every_turn else sum(map(_earlier_turns, examples)),
    )


def _packed(samples: Sequence[Sample], length: int) -> Rows:
    """Packed rows; where everything fits into a shorter one, that is taken."""
    return pack(samples, min(length, rounded(sum(map(len, samples)))))


def sequence_length_of(recipe: Recipe, model: ModelText) -> int:
    """Tokens of a row: what the recipe says, else 1024, or the model's context where that is shorter.

    Raises:
        UsageError: more than the model's context.
    """
    asked = recipe.samples.sequence_length
    if asked is None:
        return min(STANDARD_LENGTH, model.context)
    if asked > model.context:
        raise UsageError(
            f"--sequence-length {asked}: {model.name} takes texts of at most {model.context} tokens. Lower it, or take "
            "a model with a longer context."
        )
    return asked


def choose_template(recipe: Recipe, model: ModelText, examples: Sequence[Example]) -> ChatTemplate | None:
    """The chat template that examples are written with; None for plain text.

    `auto` takes it for conversations, and for prompts with completions where the model was trained to chat.

    Raises:
        TemplateError: it is needed, and there is none.
        UsageError: plain text is asked for, but there are conversations.
    """
    asked = recipe.samples.template
    chat = next((example for example in examples if isinstance(example, Conversation)), None)
    if asked == "plain" and chat is not None:
        raise UsageError(f"--template plain: {chat.source} is a conversation, which needs a chat template. Use chat.")
    if asked == "plain" or (asked == "auto" and chat is None and not model.is_instruction_tuned):
        return None
    if model.template is None and (asked == "chat" or chat is not None):
        what = f"{chat.source} is a conversation, but" if chat is not None else "--template chat:"
        raise TemplateError(f"{what} {model.name} has no chat template. Take a model that has one, or plain prompts.")
    return model.template


def _read(recipe: Recipe, names: Sequence[str], limit: int | None) -> tuple[tuple[DataFile, ...], list[Example]]:
    """The examples of files; the recipe's format and mapping hold for each of them."""
    files, examples, problems = [], list[Example](), _Problems()
    for name in names:
        path, form, count = find_data(name), None, 0
        for record in read_records(path):
            if len(examples) + len(problems.texts) == limit:
                break
            form = form or detect(record, recipe.samples.format, recipe.samples.map)
            count += 1
            try:
                examples.append(form.example(record))
            except DataError as problem:
                problems.add(problem)
        if form is not None:
            digest = sha256_of(path) if path.is_file() else None
            files.append(DataFile(str(path), form, count, digest))
    problems.check("records cannot be used")
    return tuple(files), examples


def _made(maker: SampleMaker, examples: Sequence[Example], tell: Progress) -> list[Sample]:
    samples, problems = [], _Problems()
    for number, example in enumerate(examples, 1):
        try:
            samples.append(maker.make(example))
        except DataError as problem:
            problems.add(problem)
        tell("encoding", number, len(examples))
    problems.check("records cannot be used")
    return samples


class _Problems:
    """Errors of single records, told together."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, problem: Exception) -> None:
        self.texts.append(str(problem))

    def check(self, what: str) -> None:
        """Raises a DataError if there is any."""
        if len(self.texts) == 1:
            raise DataError(self.texts[0])
        if self.texts:
            more = f"\n(and {len(self.texts) - _MAX_LISTED} more)" if len(self.texts) > _MAX_LISTED else ""
            raise DataError(f"{len(self.texts)} {what}.\n" + "\n".join(self.texts[:_MAX_LISTED]) + more)


def _earlier_turns(example: Example) -> int:
    """Turns of the assistant before the last one."""
    if not isinstance(example, Conversation):
        return 0
    return sum(message["role"] == "assistant" for message in example.messages) - 1


__all__ = ["DataFile", "ModelText", "TrainingData", "choose_template", "prepare"]
