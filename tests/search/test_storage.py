"""What is said of a storage that fails, in every way in which SQLAlchemy tells it."""

from __future__ import annotations

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError, PendingRollbackError

from src.search.lease import StudyBusy
from src.search.storage import plainly


def _lost() -> Exception:
    return OperationalError("SELECT 1", {}, OSError("connection refused\nIs the server running?"))


def _refused(context: BaseException | None) -> Exception:
    """What a session says when a statement follows the one that failed."""
    error = PendingRollbackError("Can't reconnect until rolled back.", code="8s2b")
    error.__context__ = context
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (_lost(), "(connection refused)"),
        (_refused(_lost()), "(connection refused)"),
        (_refused(None), "(Can't reconnect until rolled back.)"),
    ],
    ids=["at once", "after a statement that failed", "nobody knows why"],
)
def test_the_database_is_quoted_and_not_what_stands_around(error: Exception, said: str) -> None:
    with pytest.raises(StudyBusy) as told, plainly():
        raise StorageInternalError("Optuna's words") from error
    assert said in str(told.value)
    assert "sqlalche.me" not in str(told.value) and "SQL:" not in str(told.value)
