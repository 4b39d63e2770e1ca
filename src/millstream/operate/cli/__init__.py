"""The command line: `millstream up`, `run`, `broker`, `topics`, `lag`, `tail`, `config`, `dlq`, and more."""

import sys

from millstream.errors import ConfigurationError, DeclarationError, IncompatibleSchema, MillstreamError


def main() -> None:
    """The entry point `millstream`. What goes wrong foreseeably is one line on standard error."""
    try:
        if sys.argv[1:2] == ["broker"]:
            from millstream.operate.cli.broker import become_broker

            become_broker(sys.argv[2:])  # at once: the import of the other commands takes as long as the broker's start
        from millstream.operate.cli.app import app

        app()
    except (ConfigurationError, DeclarationError, IncompatibleSchema) as error:
        sys.exit(_say(error, 2))
    except MillstreamError as error:
        sys.exit(_say(error, 1))
    except Exception as error:
        from millstream.operate.log_lines import crash_of

        if not (block := crash_of(error)):
            raise  # no code of the user's: whoever mends it needs the whole traceback
        print(f"millstream: the code of the system failed: {block}", file=sys.stderr)
        sys.exit(1)


def _say(error: MillstreamError, code: int) -> int:
    print(f"millstream: {error}", file=sys.stderr)
    return code
