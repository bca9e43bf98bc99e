"""A made-up paraphrase corpus in the style of newswire, for the demo search and for tests.

Each pair of sentences says the same thing twice in different words (``paraphrase``), or differs in exactly
one fact: a number, a name, a direction, a negation, or who did what to whom (``not_paraphrase``).  Both
sorts are reworded alike (synonyms, voice, clause order, number formats, abbreviations, moved attribution),
and the word overlap of both is drawn towards the same targets, so that counting shared words does not tell
them apart.

Run::

    python -m tune.demo --out DIR [--seed N]

to write ``train.jsonl``, ``validation.jsonl`` and ``test.jsonl`` (fields ``sentence1``, ``sentence2``,
``label``).  The files in ``tune/presets/demo`` are its output for the default seed.  Everything is invented:
no text is taken from any corpus, and no person, company or team is real.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tune.demo import words
from tune.demo.words import FRAMES

DEFAULT_SEED = 2024
#: Pairs per split, and how many of them are paraphrases (0.67 in each).
SPLITS = {"train": (800, 536), "validation": (200, 134), "test": (400, 268)}
#: What the near-misses change, as shares of them; the positives draw on the same frames in the same shares.
MIX = {"number": 0.20, "name": 0.70, "direction": 0.045, "negation": 0.035, "role": 0.02}
#: No two pairs (of one split or of two) share more than this part of their words.
MAX_PAIR_OVERLAP = 0.75

PARAPHRASE, NOT_PARAPHRASE = "paraphrase", "not_paraphrase"
SAME = "same"  # the kind of a positive pair

_NUMBER_TYPES = ("pct", "rate", "usd", "loot", "price", "n", "t", "k", "score", "date")
_NAME_TYPES = ("co", "per", "city", "country", "team", "cur", "org")
_SLOT = re.compile(r"\{(\w+)\}")

_TARGET_OVERLAP = (0.86, 0.10)  # mean and spread of the word overlap that both labels aim at
_USUAL_WORD = 0.85  # how often a polarity is put in its usual word (else in any of its words)
_CANDIDATES = 12  # rewordings drawn per pair, of which the one nearest to the target is kept


@dataclass(frozen=True)
class Pair:
    """Two sentences and their label; ``kind`` names the change made ("same" for a paraphrase)."""

    sentence1: str
    sentence2: str
    label: str
    kind: str


#: A slot's value: a number, or a name together with its long form where it has two.
Value = float | tuple[str, str]


@dataclass(frozen=True)
class Fact:
    """What a sentence says: a frame, a value for each of its slots, and its polarity."""

    frame: int
    values: dict[str, Value]
    polarity: bool
    attributed: bool


def _slots(frame: int) -> list[str]:
    """The slots of a frame's clauses and of its source, each once."""
    return list(dict.fromkeys(_SLOT.findall(" ".join([*FRAMES[frame].forms, FRAMES[frame].source]))))


def _body_slots(frame: int) -> list[str]:
    """The slots of a frame's clauses, without those that only its source has."""
    return list(dict.fromkeys(_SLOT.findall(" ".join(FRAMES[frame].forms))))


def _type(slot: str) -> str:
    """The type of a slot: its name without the digit."""
    return slot.rstrip("0123456789")


def _draw(kind: str, rng: random.Random) -> Value:
    """A random value of a slot type."""
    if kind == "co":
        name, (short, long) = rng.choice(words.COMPANIES), rng.choice(words.SUFFIXES)
        return f"{name} {short}", f"{name} {long}"
    if kind == "per":
        name = f"{rng.choice(words.FIRST_NAMES)} {rng.choice(words.SURNAMES)}"
        return name, name
    if kind == "country" and rng.random() < 0.25:
        return rng.choice(words.ABBREVIATED_COUNTRIES)
    if kind == "org":
        return rng.choice(words.ORGS)
    if kind == "month":
        return rng.choice(words.MONTHS)
    if kind == "date":
        (short, long), day = rng.choice(words.MONTHS), rng.randint(1, 28)
        return f"{short} {day}", f"{long} {day}"
    plain = {
        "city": words.CITIES,
        "country": words.COUNTRIES,
        "cur": words.CURRENCIES,
        "team": words.TEAMS,
        "day": words.DAYS,
        "q": ("first", "second", "third", "fourth"),
    }
    if kind in plain:
        name = rng.choice(plain[kind])
        return name, name
    if kind == "score":
        low = rng.randint(0, 3)
        score = f"{rng.randint(low + 1, 7)}-{low}"
        return score, score.replace("-", " to ")
    if kind == "pct":
        return float(rng.randint(2, 48)) if rng.random() < 0.85 else rng.randint(11, 99) / 10
    if kind == "loot":
        return float(rng.randint(2, 95))
    if kind == "rate":
        return rng.randint(4, 19) / 2
    if kind == "usd":
        return rng.choice((1.0, 1000.0)) * (rng.randint(2, 95) if rng.random() < 0.75 else rng.randint(11, 99) / 10)
    if kind == "price":
        return rng.randint(3500, 11900) / 100
    if kind == "n":
        return float(rng.randint(3, 19))
    if kind == "t":
        return float(rng.randint(21, 95))
    if kind == "k":
        return float(rng.randint(12, 99) * rng.choice((10, 100)))
    raise ValueError(f"unknown slot type: {kind}")


def _spelled(number: int) -> str:
    """A whole number from 0 to 99 in words."""
    if number < 20:
        return words.UNITS[number]
    tens, unit = divmod(number, 10)
    return words.TENS[tens] + (f"-{words.UNITS[unit]}" if unit else "")


def _write(kind: str, value: Value, rng: random.Random) -> str:
    """A value as text, in one of the formats that its type allows."""
    if isinstance(value, tuple):
        return value[0] if rng.random() < (0.2 if kind == "month" else 0.6) else value[1]
    plain = f"{value:g}"
    whole = value == int(value)
    style = rng.random()
    if kind in ("pct", "rate"):
        if whole and value < 13 and style < 0.15:
            return f"{_spelled(int(value))} percent"
        return f"{plain} percent" if style < 0.65 else f"{plain}%"
    if kind in ("usd", "loot"):
        unit = "million" if value < 1000 else "billion"
        amount = value if value < 1000 else round(value / 1000, 1)
        if amount == int(amount) and amount < 13 and style < 0.2:
            return f"{_spelled(int(amount))} {unit} dollars"
        if unit == "million" and style < 0.25:
            return f"${round(amount * 1_000_000):,}"
        return f"${amount:g} {unit}" if style < 0.85 else f"{amount:g} {unit} dollars"
    if kind == "price":
        return f"${value:.2f}"
    if kind == "n":
        return plain if style < (0.5 if value < 10 else 0.8) else _spelled(int(value))
    if kind == "t":
        return plain if style < 0.9 else _spelled(int(value))
    return f"{int(value):,}" if style < 0.92 else f"{int(value)}"


def _words(text: str) -> frozenset[str]:
    """The set of words of a text, lower-cased and without outer punctuation."""
    return frozenset(word.strip(".,'\"") for word in text.lower().split())


def overlap(one: frozenset[str], two: frozenset[str]) -> float:
    """The Jaccard index of two word sets."""
    return len(one & two) / len(one | two)


def word_set(pair: Pair) -> frozenset[str]:
    """All words of both sentences of a pair, lower-cased and without outer punctuation."""
    return _words(f"{pair.sentence1} {pair.sentence2}")


def _make_fact(frame: int, rng: random.Random) -> Fact:
    """A random fact of a frame; slots of one type never share a value."""
    values: dict[str, Value] = {}
    for slot in [*_slots(frame), "said_day"]:
        kind = "day" if slot == "said_day" else _type(slot)
        value = _draw(kind, rng)
        while any(_type(other) == kind and not _differ(kind, value, taken) for other, taken in values.items()):
            value = _draw(kind, rng)
        values[slot] = value
    if "day" in values or rng.random() < 0.65:
        del values["said_day"]
    return Fact(frame, values, rng.random() < 0.5, bool(FRAMES[frame].source) and rng.random() < 0.45)


def _differ(kind: str, one: Value, two: Value) -> bool:
    """Whether two values of a type differ clearly, in every format."""
    if isinstance(one, tuple) or isinstance(two, tuple):
        if not (isinstance(one, tuple) and isinstance(two, tuple)):
            raise TypeError("a name compared with a number")
        if kind == "date":
            (month1, day1), (month2, day2) = one[0].split(), two[0].split()
            return month1 == month2 and abs(int(day1) - int(day2)) > 4
        if kind == "score":
            return one[0].split("-")[0] != two[0].split("-")[0] and one[0].split("-")[1] != two[0].split("-")[1]
        names = [set(re.findall(r"\w+", " ".join(value))) - {"the", "Group", "United"} for value in (one, two)]
        if kind == "co":  # another suffix alone would be hard to tell from another format of it
            return one[0].split()[0] != two[0].split()[0]
        return not names[0] & names[1]
    return (
        f"{one:g}"[0] != f"{two:g}"[0]
        and max(one, two) >= 1.4 * min(one, two)
        and (kind != "usd" or (one < 1000) == (two < 1000))
    )


def _redraw(fact: Fact, slot: str, rng: random.Random) -> Fact:
    """The fact with another value in one slot, one that no slot of the same type has."""
    kind = _type(slot)
    while True:
        value = _draw(kind, rng)
        if kind == "co" and rng.random() < 0.5:  # keep the suffix, so that a new suffix is no clue
            name = _names(value)[0].split()[0]
            short, long = (part.split()[1] for part in _names(fact.values[slot]))
            value = (f"{name} {short}", f"{name} {long}")
        others = [taken for other, taken in fact.values.items() if _type(other) == kind and other != slot]
        if _differ(kind, value, fact.values[slot]) and value not in others:
            return replace(fact, values={**fact.values, slot: value})


def _names(value: Value) -> tuple[str, str]:
    """The value of a name slot."""
    if not isinstance(value, tuple):
        raise TypeError("not a name")
    return value


def _allows(frame: int, kind: str) -> bool:
    """Whether a near-miss of a kind can be made from a frame."""
    types = {_type(slot) for slot in _body_slots(frame)}
    if kind == "role":
        return bool(FRAMES[frame].roles)
    if kind in ("direction", "negation"):
        return FRAMES[frame].flip == kind
    return bool(types & set(_NUMBER_TYPES if kind == "number" else _NAME_TYPES))


def _change(fact: Fact, kind: str, rng: random.Random) -> Fact:
    """The fact with exactly one thing changed, of the kind asked for."""
    if kind in ("direction", "negation"):
        return replace(fact, polarity=not fact.polarity)
    if kind == "role":
        one, two = FRAMES[fact.frame].roles
        return replace(fact, values={**fact.values, one: fact.values[two], two: fact.values[one]})
    wanted = _NUMBER_TYPES if kind == "number" else _NAME_TYPES
    return _redraw(fact, rng.choice([slot for slot in _body_slots(fact.frame) if _type(slot) in wanted]), rng)


def _expand(template: str, fact: Fact, rng: random.Random) -> str:
    """A template with its macros, polarity, variants and slots filled in for a fact."""
    text = re.sub(r"\$[a-z]+", lambda match: words.MACROS[match[0]], template)
    text = re.sub(r"<(.*?)//(.*?)>", lambda match: _usual(match[1 if fact.polarity else 2], rng), text)
    text = re.sub(r"\[(.*?)\]", lambda match: rng.choice(match[1].split("|")), text)
    return _SLOT.sub(lambda match: _write(_type(match[1]), fact.values[match[1]], rng), text)


def _usual(text: str, rng: random.Random) -> str:
    """One variant of a side of a polarity, mostly the first; a variant may hold ``[a|b]`` itself."""
    variants = re.split(r"\|(?![^\[]*\])", text)
    return variants[0] if rng.random() < _USUAL_WORD else rng.choice(variants)


def render(fact: Fact, rng: random.Random) -> str:
    """One sentence that states a fact, in a random wording."""
    frame = FRAMES[fact.frame]
    body = _expand(rng.choice(frame.forms), fact, rng)
    if fact.attributed:
        source = _expand(frame.source, fact, rng)
        if "said_day" in fact.values:
            day = _names(fact.values["said_day"])[0]
            shapes = [f"{body}, {source} said on {day}", f"{source} said on {day} that {body}"]
        else:
            shapes = [
                f"{body}, {source} said",
                f"according to {source}, {body}",
                f"{source} said that {body}",
                f"{body}, according to {source}",
            ]
        body = rng.choice(shapes)
    body = re.sub(r"\b([Aa]) (?=(?:8|11\b|18\b|eight|eleven))", r"\1n ", body)
    sentence = body[0].upper() + body[1:]
    return sentence if sentence.endswith(".") else sentence + "."


def _make_pair(frame: int, kind: str, positive: bool, rng: random.Random) -> Pair:
    """A random pair of a frame: a paraphrase, or a near-miss of the kind asked for."""
    fact = _make_fact(frame, rng)
    other = fact if positive else _change(fact, kind, rng)
    first = render(fact, rng)
    target = rng.gauss(*_TARGET_OVERLAP)
    candidates: list[str] = []
    while not candidates:
        candidates = [second for second in (render(other, rng) for _ in range(_CANDIDATES)) if second != first]
    second = min(candidates, key=lambda text: abs(overlap(_words(first), _words(text)) - target))
    return Pair(first, second, PARAPHRASE if positive else NOT_PARAPHRASE, SAME if positive else kind)


def _sized(pair: Pair) -> bool:
    """Whether both sentences have from 12 to 30 words."""
    return all(12 <= len(sentence.split()) <= 30 for sentence in (pair.sentence1, pair.sentence2))


def _shares(total: int) -> list[str]:
    """The kinds of MIX, each as often as its share of a total says (largest remainders first)."""
    counts = {kind: int(total * share) for kind, share in MIX.items()}
    by_remainder = sorted(MIX, key=lambda kind: counts[kind] - total * MIX[kind])
    for kind in by_remainder[: total - sum(counts.values())]:
        counts[kind] += 1
    return [kind for kind, count in counts.items() for _ in range(count)]


def make_corpus(seed: int) -> dict[str, list[Pair]]:
    """The corpus of a seed: split name -> pairs.  The same seed gives the same corpus, on every machine."""
    rng = random.Random(seed)
    frames = {kind: [frame for frame in range(len(FRAMES)) if _allows(frame, kind)] for kind in MIX}
    taken: list[list[frozenset[str]]] = [[] for _ in FRAMES]  # per frame, the words of the pairs made so far
    sentences: set[str] = set()
    corpus: dict[str, list[Pair]] = {}
    for split, (size, positives) in SPLITS.items():
        plan = [(kind, True) for kind in _shares(positives)] + [(kind, False) for kind in _shares(size - positives)]
        rng.shuffle(plan)
        pairs: list[Pair] = []
        for kind, positive in plan:
            while True:
                frame = rng.choice(frames[kind])
                pair = _make_pair(frame, kind, positive, rng)
                used = word_set(pair)
                if {pair.sentence1, pair.sentence2} & sentences or not _sized(pair):
                    continue
                if all(overlap(used, earlier) <= MAX_PAIR_OVERLAP for earlier in taken[frame]):
                    break
            taken[frame].append(used)
            sentences.update((pair.sentence1, pair.sentence2))
            pairs.append(pair)
        corpus[split] = pairs
    return corpus


def to_jsonl(pairs: Sequence[Pair]) -> str:
    """The pairs as JSON lines, as the files hold them."""
    rows = ({"sentence1": pair.sentence1, "sentence2": pair.sentence2, "label": pair.label} for pair in pairs)
    return "".join(json.dumps(row) + "\n" for row in rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the three files of a corpus."""
    parser = argparse.ArgumentParser(prog="python -m tune.demo", description="Write the demo paraphrase corpus.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the three files into")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help=f"default {DEFAULT_SEED}")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for split, pairs in make_corpus(args.seed).items():
        (args.out / f"{split}.jsonl").write_bytes(to_jsonl(pairs).encode("utf-8"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
