"""The options of config/ on a command line: click parameters, Go's way of writing booleans, help by group."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from kuberouter_py.cli.errors import Failure
from kuberouter_py.config import OPTIONS, BadOption, Config, Option, texts_of_environment

Texts = dict[str, list[str]]


def click_options(names: Sequence[str] | None = None) -> list[click.Parameter]:
    """One parameter for each option (default: all), all of them texts: config/ turns those into values."""
    return [_click_option(OPTIONS[name]) for name in (names if names is not None else OPTIONS)]


def _click_option(option: Option) -> click.Option:
    declared = [option.field, option.flag, *(f"--{alias}" for alias in option.aliases)]
    if option.short:
        declared.append(f"-{option.short}")
    return click.Option(
        declared,
        multiple=True,  # lists are repeatable; of anything else the last one counts, as with Go's flags
        metavar=option.kind.metavar,
        help=f"{option.help}  [{'; '.join(_defaults(option))}]",
    )


def _defaults(option: Option) -> Iterator[str]:
    yield f"default: {option.default_text or 'none'}"
    yield from (f"env: {variable}" for variable in option.environment[1:])  # the first follows from the flag


def given_texts(parameters: Mapping[str, Any]) -> Texts:
    """What stood on the command line, by option name."""
    return {name: list(parameters[option.field]) for name, option in OPTIONS.items() if parameters.get(option.field)}


def configuration(texts: Texts) -> Config:
    """Command line before environment before default. Raises Failure naming the flag, and the variable it came by."""
    around = texts_of_environment(os.environ)
    try:
        return config_of({**around, **texts})
    except Failure as failure:
        name = str(failure).partition(":")[0].removeprefix("--")
        if name not in around or name in texts:
            raise
        variable = next(each for each in OPTIONS[name].environment if os.environ.get(each))
        raise Failure(f"{failure} (environment variable {variable})") from None


def config_of(texts: Mapping[str, Sequence[str]]) -> Config:
    try:
        return Config.from_texts(texts)
    except BadOption as error:
        raise Failure(str(error)) from None


class GoFlags(click.Command):
    """A command whose booleans are Go's: `--flag` alone is true, a value comes after "=" and never as the next word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(go_style(args)))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """By group, in the order of config/; then what the command has of its own."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(_group_of(parameter), []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)
        self._format_commands(ctx, formatter)

    def _format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)


class GoFlagsGroup(GoFlags, click.Group):
    """The same with commands below it."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in ("true", "false"):
            raise Failure(f'"{args[0]}" stands alone: the value of a boolean follows an equals sign, --flag={args[0]}')
        return super().resolve_command(ctx, args)


_BARE = {
    flag: option.kind.bare
    for option in OPTIONS.values()
    if option.kind.bare
    for flag in (option.flag, *(f"--{alias}" for alias in option.aliases))
}
_SHORT = {f"-{option.short}=": f"--{option.name}=" for option in OPTIONS.values() if option.short}


def go_style(arguments: Sequence[str]) -> Iterator[str]:
    """`--flag` -> `--flag=true` for booleans, `-v=2` -> `--v=2`, up to a `--`."""
    words = iter(arguments)
    for word in words:
        if word == "--":
            yield word
            break
        short = next((long + word[len(head) :] for head, long in _SHORT.items() if word.startswith(head)), word)
        yield f"{word}={_BARE[word]}" if word in _BARE else short
    yield from words


def _group_of(parameter: click.Parameter) -> str:
    option = next((each for each in OPTIONS.values() if each.field == parameter.name), None)
    return option.group if option else "Other"
