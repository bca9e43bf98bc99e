"""Rows of other splits that differ from a row by a word or two: MinHash finds candidates, their words decide.

Comparing every row with every other would take hours. Rows of which a few random minima agree (Broder, "On the
resemblance and containment of documents", 1997) are few, and only those are compared word by word.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

ALIKE = 0.8  # near-copies have at least this fraction of their words and pairs of neighbouring words in common
FEWEST_WORDS = 6  # of shorter rows a single word decides, and then they are no copies
MOST_WORDS = 400  # of a row that are compared
MOST_IN_BUCKET = 64  # rows that agree in so many are compared with no more; forms and templates fill such buckets
BANDS, MINIMA = 12, 4  # rows of which ALIKE is in common meet in a band with a probability of 0.998
# Chinese, Japanese and Korean are written without blanks: there each character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


def near_copies(texts: Sequence[str], groups: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Find rows that are almost the same as a row of another group.

    Args:
        texts: By row, folded.
        groups: By row: which split it belongs to.

    Returns:
        Pairs of row numbers, each row with one near-copy at most in each other group; the smaller number first.
    """
    words, starts = _words(texts)
    shingles, ends, owners = _shingles(words, starts)
    if not len(owners):
        return []
    rng = np.random.default_rng(0)  # the permutations are the same in every run
    factors = rng.integers(1, 2**63, size=BANDS * MINIMA, dtype=np.uint64) | np.uint64(1)
    begins = np.concatenate([[0], ends[:-1]])
    found: dict[tuple[int, int], tuple[int, int]] = {}  # by row and the other's group: the pair
    looked_at: set[tuple[int, int]] = set()
    permuted = np.empty_like(shingles)
    for band in range(BANDS):
        key = np.zeros(len(owners), dtype=np.uint64)
        for factor in factors[band * MINIMA : (band + 1) * MINIMA]:
            np.multiply(shingles, factor, out=permuted)  # the hashes are random: an odd factor permutes them well
            key = _mixed(key ^ np.minimum.reduceat(permuted, begins))
        for one, other in _in_one_bucket(key, groups[owners]):
            if (one, other) in looked_at:
                continue
            looked_at.add((one, other))
            a, b = (set(shingles[begins[i] : ends[i]].tolist()) for i in (one, other))
            if len(a & b) < ALIKE * len(a | b):
                continue
            pair = int(owners[one]), int(owners[other])
            for row, its_copy in (pair, pair[::-1]):
                found.setdefault((row, int(groups[its_copy])), (min(pair), max(pair)))
    return sorted(set(found.values()))


def _words(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The words of all rows as numbers, one row after another; and where each row begins, with the end."""
    numbers: dict[str, int] = {}
    words, starts = array("Q"), array("q", [0])
    for text in texts:
        words.extend([numbers.setdefault(word, len(numbers)) for word in _WORD.findall(text)[:MOST_WORDS]])
        starts.append(len(words))
    return np.frombuffer(words, dtype=np.uint64) if words else np.zeros(0, np.uint64), np.frombuffer(starts, np.int64)


def _shingles(
    words: npt.NDArray[np.uint64], starts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of each row that is long enough its words and pairs of neighbouring words, as hashes.

    Returns:
        The hashes, one row after another; where each row ends; and the rows' numbers.
    """
    counts = np.diff(starts)
    owners = np.flatnonzero(counts >= FEWEST_WORDS)
    row_of = np.repeat(np.arange(len(counts)), counts)
    singles = _mixed(words + np.uint64(1))
    pairs = _mixed(singles[:-1] * np.uint64(3) + singles[1:]) if len(words) else singles
    is_pair = row_of[:-1] == row_of[1:]
    hashes = np.concatenate([singles, pairs[is_pair]])
    of_row = np.concatenate([row_of, row_of[:-1][is_pair]])
    kept = counts[of_row] >= FEWEST_WORDS
    hashes, of_row = hashes[kept], of_row[kept]
    order = np.argsort(of_row, kind="stable")
    ends = np.cumsum(2 * counts[owners] - 1)
    return hashes[order], ends, owners


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread the bits of integers: the finalizer of SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _in_one_bucket(keys: npt.NDArray[np.uint64], groups: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pairs of places with equal keys in different groups."""
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], in_order[1:] != in_order[:-1]]))
    sizes = np.diff(np.append(begins, len(keys)))
    pairs = []
    for begin, size in zip(begins[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        bucket = order[begin : begin + min(size, MOST_IN_BUCKET)].tolist()
        of = groups[bucket].tolist()
        if len(set(of)) > 1:
            pairs += [
                (one, other)
                for i, one in enumerate(bucket)
                for j, other in enumerate(bucket[i + 1 :], i + 1)
                if of[i] != of[j]
            ]
    return pairs
