"""How a command ends: users' mistakes are told in a message, ours with a traceback."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from trainable.errors import UserError
from trainable.redaction import plain


def exit_code_of(command: Callable[[], int]) -> int:
    """Run a command; an error is printed to standard error.

    Args:
        command: Returns the exit code.

    Returns:
        Its exit code; 2 for a mistake of the user's, 1 for one of ours.
    """
    try:
        return command()
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except Exception:
        print(plain(traceback.format_exc()), file=sys.stderr)
        return 1
