"""A made-up paraphrase corpus in the style of newswire, for the demo search and for tests.

The two sentences of a pair say the same thing in different words (``paraphrase``), or they differ in exactly one fact
(``not_paraphrase``). The fact is a number, a name, a direction, a negation, or who did what to whom. Both sorts are
reworded alike (synonyms, voice, clause order, number formats, abbreviations, place of the source). Both aim at the same
word overlap, so counting the words that two sentences have in common does not tell the sorts apart.

``python -m tune.demo --out DIR`` writes ``train.jsonl``, ``validation.jsonl`` and ``test.jsonl`` with the fields
``sentence1``, ``sentence2`` and ``label``. The files in ``tune/presets/demo`` are its output for the default seed.
Everything is invented: no text comes from any corpus, and no person, company or team is real.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tune.demo import words
from tune.demo.words import FRAMES

DEFAULT_SEED = 2024
#: For each split the number of pairs, and how many of them are paraphrases (67 %).
SPLIT_SIZES = {"train": (800, 536), "validation": (200, 134), "test": (400, 268)}
#: The kinds of change in pairs that are no paraphrases, as fractions; paraphrases use the same frames as often.
MIX = {"number": 0.20, "name": 0.70, "direction": 0.045, "negation": 0.035, "role": 0.02}
#: The largest overlap of words between two pairs, in one split or in two.
MAX_PAIR_OVERLAP = 0.75

PARAPHRASE, NOT_PARAPHRASE = "paraphrase", "not_paraphrase"
SAME = "same"  # the kind of a paraphrase

_NUMBER_TYPES = ("pct", "rate", "usd", "loot", "price", "n", "t", "k", "score", "date")
_NAME_TYPES = ("co", "per", "city", "country", "team", "cur", "org")
_SLOT = re.compile(r"\{(\w+)\}")

_TARGET_OVERLAP = (0.86, 0.10)  # mean and standard deviation of the overlap that both sorts aim at
_USUAL_WORD = 0.85  # how often a polarity takes its usual word; otherwise any of its words
_CANDIDATES = 12  # rewordings drawn for each pair; the one nearest to the target overlap is kept


@dataclass(frozen=True)
class Pair:
    """Two sentences and their label."""

    sentence1: str
    sentence2: str
    label: str
    """PARAPHRASE or NOT_PARAPHRASE."""
    kind: str
    """What the second sentence changes, a key of MIX, or SAME."""


#: A slot's value: a number, or a name together with its long form where it has two.
SlotValue = float | tuple[str, str]


@dataclass(frozen=True)
class Fact:
    """What a sentence says, whatever its wording."""

    frame: int
    """Index in FRAMES."""
    values: dict[str, SlotValue]
    """By slot."""
    polarity: bool
    """Which side of ``<a//b>`` holds: True means the first."""
    attributed: bool
    """Whether the sentence names its source."""


def _slots(frame: int) -> list[str]:
    """The slots of a frame's clauses and of its source, each once."""
    return list(dict.fromkeys(_SLOT.findall(" ".join([*FRAMES[frame].forms, FRAMES[frame].source]))))


def _body_slots(frame: int) -> list[str]:
    """The slots of a frame's clauses, each once; a slot that only its source has is left out."""
    return list(dict.fromkeys(_SLOT.findall(" ".join(FRAMES[frame].forms))))


def _type(slot: str) -> str:
    """The type of a slot, which is its name without the digit: "per" for "per2"."""
    return slot.rstrip("0123456789")


def _draw(kind: str, rng: random.Random) -> SlotValue:
    """A random value of a slot type."""
    if kind == "co":
        name, (short, long) = rng.choice(words.COMPANIES), rng.choice(words.COMPANY_SUFFIXES)
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


def _write(kind: str, value: SlotValue, rng: random.Random) -> str:
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
    """A random fact of a frame; slots of one type have clearly different values."""
    values: dict[str, SlotValue] = {}
    for slot in [*_slots(frame), "said_day"]:
        kind = "day" if slot == "said_day" else _type(slot)
        value = _draw(kind, rng)
        while any(_type(other) == kind and not _differ(kind, value, taken) for other, taken in values.items()):
            value = _draw(kind, rng)
        values[slot] = value
    if "day" in values or rng.random() < 0.65:
        del values["said_day"]
    return Fact(frame, values, rng.random() < 0.5, bool(FRAMES[frame].source) and rng.random() < 0.45)


def _differ(kind: str, one: SlotValue, two: SlotValue) -> bool:
    """Whether two values of a type differ clearly, whatever format they are written in."""
    if isinstance(one, tuple) or isinstance(two, tuple):
        if not (isinstance(one, tuple) and isinstance(two, tuple)):
            raise TypeError("a name compared with a number")
        if kind == "date":
            (month1, day1), (month2, day2) = one[0].split(), two[0].split()
            return month1 == month2 and abs(int(day1) - int(day2)) > 4
        if kind == "score":
            return one[0].split("-")[0] != two[0].split("-")[0] and one[0].split("-")[1] != two[0].split("-")[1]
        names = [set(re.findall(r"\w+", " ".join(value))) - {"the", "Group", "United"} for value in (one, two)]
        if kind == "co":  # another suffix alone would look like another format of the name
            return one[0].split()[0] != two[0].split()[0]
        return not names[0] & names[1]
    return (
        f"{one:g}"[0] != f"{two:g}"[0]
        and max(one, two) >= 1.4 * min(one, two)
        and (kind != "usd" or (one < 1000) == (two < 1000))
    )


def _redraw(fact: Fact, slot: str, rng: random.Random) -> Fact:
    """The fact with a new value in one slot, which differs from those of all slots of the same type."""
    kind = _type(slot)
    while True:
        value = _draw(kind, rng)
        if kind == "co" and rng.random() < 0.5:  # half of them keep the suffix: a new one must be no clue
            name = _names(value)[0].split()[0]
            short, long = (part.split()[1] for part in _names(fact.values[slot]))
            value = (f"{name} {short}", f"{name} {long}")
        others = [taken for other, taken in fact.values.items() if _type(other) == kind and other != slot]
        if _differ(kind, value, fact.values[slot]) and value not in others:
            return replace(fact, values={**fact.values, slot: value})


def _names(value: SlotValue) -> tuple[str, str]:
    """A value that must be a name: its short and its long form."""
    if not isinstance(value, tuple):
        raise TypeError("not a name")
    return value


def _allows(frame: int, kind: str) -> bool:
    """Whether a frame allows a change of this kind."""
    types = {_type(slot) for slot in _body_slots(frame)}
    if kind == "role":
        return bool(FRAMES[frame].roles)
    if kind in ("direction", "negation"):
        return FRAMES[frame].flip == kind
    return bool(types & set(_NUMBER_TYPES if kind == "number" else _NAME_TYPES))


def _change(fact: Fact, kind: str, rng: random.Random) -> Fact:
    """The fact with exactly one change, of this kind."""
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
    """One of the variants of a polarity's side, mostly the first; a variant may itself hold ``[a|b]``."""
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
    """A random pair of a frame: a paraphrase, or two sentences that differ by a change of this kind."""
    fact = _make_fact(frame, rng)
    other = fact if positive else _change(fact, kind, rng)
    first = render(fact, rng)
    target = rng.gauss(*_TARGET_OVERLAP)
    candidates: list[str] = []
    while not candidates:
        candidates = [second for second in (render(other, rng) for _ in range(_CANDIDATES)) if second != first]
    second = min(candidates, key=lambda text: abs(overlap(_words(first), _words(text)) - target))
    return Pair(first, second, PARAPHRASE if positive else NOT_PARAPHRASE, SAME if positive else kind)


def _has_good_length(pair: Pair) -> bool:
    """Whether both sentences have from 12 to 30 words."""
    return all(12 <= len(sentence.split()) <= 30 for sentence in (pair.sentence1, pair.sentence2))


def _kinds(total: int) -> list[str]:
    """As many kinds of change as `total`, in the proportions of MIX (method of largest remainders)."""
    counts = {kind: int(total * fraction) for kind, fraction in MIX.items()}
    by_remainder = sorted(MIX, key=lambda kind: counts[kind] - total * MIX[kind])
    for kind in by_remainder[: total - sum(counts.values())]:
        counts[kind] += 1
    return [kind for kind, count in counts.items() for _ in range(count)]


def make_corpus(seed: int) -> dict[str, list[Pair]]:
    """The pairs of each split. The same seed gives the same corpus on every machine."""
    rng = random.Random(seed)
    frames = {kind: [frame for frame in range(len(FRAMES)) if _allows(frame, kind)] for kind in MIX}
    taken: list[list[frozenset[str]]] = [[] for _ in FRAMES]  # for each frame, the words of each pair made so far
    sentences: set[str] = set()
    corpus: dict[str, list[Pair]] = {}
    for split, (size, positives) in SPLIT_SIZES.items():
        plan = [(kind, True) for kind in _kinds(positives)] + [(kind, False) for kind in _kinds(size - positives)]
        rng.shuffle(plan)
        pairs: list[Pair] = []
        for kind, positive in plan:
            while True:
                frame = rng.choice(frames[kind])
                pair = _make_pair(frame, kind, positive, rng)
                used = word_set(pair)
                if {pair.sentence1, pair.sentence2} & sentences or not _has_good_length(pair):
                    continue
                if all(overlap(used, earlier) <= MAX_PAIR_OVERLAP for earlier in taken[frame]):
                    break
            taken[frame].append(used)
            sentences.update((pair.sentence1, pair.sentence2))
            pairs.append(pair)
        corpus[split] = pairs
    return corpus


def to_jsonl(pairs: Sequence[Pair]) -> str:
    """The content of a file with these pairs, one JSON object a line."""
    rows = ({"sentence1": pair.sentence1, "sentence2": pair.sentence2, "label": pair.label} for pair in pairs)
    return "".join(json.dumps(row) + "\n" for row in rows)
