"""The part of memunit-generator that reads files: each one that has changed, by itself."""

from collections.abc import Sequence

from memunit.cli.files import load_document
from memunit.cli.generator import Generator
from memunit.core import unitfile
from memunit.core.names import is_instance
from memunit.core.problems import SettingsError
from memunit.core.settings import examine
from memunit.core.unitnames import KINDS, SUFFIX

_MOST_TOLD = 3


class Generating:
    """The files of some instances, read for one run of the generator."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._good: set[str] = set()

    def run(self, instances: Sequence[str]) -> set[str]:
        """Write the drop-ins of each; returns those whose file could be used."""
        for instance in filter(is_instance, instances):
            self._generator.guarded(instance, self._one)
        return self._good

    def _one(self, instance: str) -> bool:
        source = f"{self._generator.source}/{instance}{SUFFIX}"
        try:
            problems = self._usable(instance, source)
        except OSError:
            raise
        except SettingsError as error:
            problems = [str(problem) for problem in error.problems]
        except Exception as error:  # what nobody has foreseen must harm no other instance either
            problems = [f"{source}: memunit itself is at fault: {type(error).__name__}: {error}"]
        if problems:
            self._without(instance, source, problems)
        return True

    def _usable(self, instance: str, source: str) -> list[str]:
        """Write the drop-ins of one file; returns why that can't be, if it can't."""
        generator = self._generator
        parsed = examine(load_document(source), source)
        if unitfile.unusable(parsed):
            return [str(problem) for problem in parsed.problems]
        made = unitfile.drop_ins(parsed, instance, generator.processors, ipv6=generator.ipv6)
        for kind in KINDS:
            text = unitfile.written(made.of(kind), kind, instance, source)
            generator.write(instance, kind, text)
            generator.keep(instance, kind, text)
            if kind == "service":
                generator.unlink_left_over(instance, text)
        self._good.add(instance)
        return []

    def _without(self, instance: str, source: str, problems: list[str]) -> None:
        """What the file said before, or a socket that says why it does not start."""
        generator = self._generator
        for line in problems[:_MOST_TOLD]:
            generator.tell(f"memunit@{instance}: {line}")
        before = {kind: generator.recall(instance, kind) for kind in KINDS}
        if all(text is None for text in before.values()):
            generator.write(instance, "socket", unitfile.refused(problems, instance, source))
        for kind, text in before.items():
            if text:
                generator.write(instance, kind, unitfile.kept(text, problems))
