"""Writes that fail where another process was faster; a store in memory plays the bucket."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import obstore
import pytest
from obstore.store import MemoryStore

from trainable.storage import conditional_writes
from trainable.storage.conditional_writes import ConditionalObject, conditional_object


def test_of_many_that_begin_at_once_one_writes() -> None:
    for _ in range(20):
        bucket, start = MemoryStore(), Barrier(8)

        def begin(number: int, bucket: MemoryStore = bucket, start: Barrier = start) -> bool:
            mine = ConditionalObject(bucket, "a/driver.json")
            mine.look()
            start.wait()
            return mine.write(f"driver {number}")

        with ThreadPoolExecutor(8) as threads:
            wrote = list(threads.map(begin, range(8)))
        assert sum(wrote) == 1
        assert bytes(obstore.get(bucket, "a/driver.json").bytes()) == f"driver {wrote.index(True)}".encode()


def test_who_was_overtaken_writes_nothing_more() -> None:
    bucket = MemoryStore()
    one, two = ConditionalObject(bucket, "key"), ConditionalObject(bucket, "key")
    assert one.write("one")
    assert one.write("one again")
    two.look()
    assert two.write("two")
    assert not one.write("one once more")
    obstore.delete(bucket, "key")
    assert not two.write("two again"), "an object that was removed is not made anew"


def test_an_answer_that_was_lost_is_no_other_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    put = obstore.put

    def put_twice(*arguments: Any, **options: Any) -> Any:
        put(*arguments, **options)
        return put(*arguments, **options)

    mine = ConditionalObject(MemoryStore(), "key")
    monkeypatch.setattr(obstore, "put", put_twice)
    assert mine.write("mine")
    assert mine.write("mine, 15 s later")


def test_a_store_that_does_not_look_at_conditions_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ConditionalObject(MemoryStore(), "key")
    assert mine.write("mine")
    assert mine.keeps_conditions()
    assert mine.write("mine"), "the trial has changed nothing"
    put = obstore.put
    monkeypatch.setattr(obstore, "put", lambda store, key, file, mode: put(store, key, file))
    assert not mine.keeps_conditions()


def test_a_store_that_refuses_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise NotImplementedError("no such mode\nat line 1")

    monkeypatch.setattr(obstore, "put", refuse)
    with pytest.raises(OSError, match=r"no such mode$"):
        ConditionalObject(MemoryStore(), "key").write("mine")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("s3://bucket/a/b?endpoint_override=http://localhost:9&region=us-east-1", "a/b/driver.json"),
        ("s3://bucket?endpoint_override=localhost:9&scheme=http", "driver.json"),
        ("abfs://container@account/a", "a/driver.json"),
        ("abfss://container@account.dfs.core.windows.net/a/", "a/driver.json"),
        ("gs://bucket/a", "a/driver.json"),
    ],
)
def test_the_key_is_pyarrows(url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a" * 16)
    found = conditional_object(url, "driver.json")
    assert found is not None
    assert found._key == key


def test_other_urls_have_no_conditions() -> None:
    assert conditional_object("file:///tmp/a", "driver.json") is None
    assert conditional_object("hdfs://host/a", "driver.json") is None
    with pytest.raises(OSError, match="not container@account"):
        conditional_object("abfs://container/a", "driver.json")


def test_keys_that_obstore_does_not_read_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would ask the network for others, for half a minute."""
    url = "s3://bucket/a?endpoint_override=http://localhost:9"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setattr(conditional_writes, "find_spec", lambda name: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in conditional_writes.PROFILES:
        monkeypatch.delenv(name, raising=False)
    assert conditional_object(url, "driver.json") is not None, "the machine may have been given keys"
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\n")
    with pytest.raises(OSError, match="keys of a profile"):
        conditional_object(url, "driver.json")
