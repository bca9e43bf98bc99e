"""The word lists and sentence frames of the demo corpus (data only; `tune/demo/corpus.py` makes sentences of them).

Every surname, company and team is invented; the cities and countries are real.  In a frame:

``{co}`` ``{co2}``   a slot; its type is the name without its digit. Types that their names do not tell:
                     ``usd`` is any sum, ``loot`` is millions, ``rate`` is a small percentage.
                     ``n``, ``t`` and ``k`` are counts in ones, in tens and up to thousands.
                     ``q`` is a quarter, ``cur`` is a currency.
``[a|b]``            variants with the same meaning
``<a|b//c|d>``       the frame's polarity: one side is the opposite (or the negation) of the other
``$rose``            a macro: its text in ``MACROS`` replaces it before anything else
"""

from __future__ import annotations

import re
from dataclasses import dataclass


def _list(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


FIRST_NAMES = _list("""Adele Amir Anita Arthur Bianca Boris Camille Carlos Celia Clara Daniel Dario Diana
Edith Elena Emil Esther Fatima Felix Fiona Gavin Greta Hannah Hector Helena Hugo Ines Irene Isaac Jonas
Judith Julian Karim Laila Leon Lydia Marcus Marta Miriam Nadia Naomi Nina Oscar Paula Petra Quentin Rafael
Rosa Ruth Samuel Selma Simon Sofia Stefan Tara Theo Ursula Victor Vera Walter Yusuf Zoe""")

SURNAMES = _list("""Abbelton Arkwell Balderic Bexham Birkholme Brannock Calloway Carvane Castrell Corvane
Dallimore Dornick Drummel Eastgrove Ellerby Fairmoor Farrowgate Fenwright Gadrick Garrowby Glenmark
Greystock Halvard Harkmoor Hollinback Hornbrook Ironside Jaspergate Keldrick Kettleworth Kingsmarch Lambrook
Larkmead Lindqvale Lockmoor Marchbank Merridan Millbrace Mossgrave Norcastle Oakmere Orchardson Overfield
Pellgrove Pemberwick Quarrington Ravenholt Redmarsh Rockwood Sandbrook Saltmarsh Silverton Stonebeck
Swanmoor Tallgate Thornwick Underbridge Vandermoor Wainscott Waterlane Westbarrow Winterhall Wolfmere
Yarrowdale""")

COMPANIES = _list("""Northgale Silverfen Brightmoor Redcliff Bluemont Oakhaven Starbridge Ironvale
Goldharbor Clearlake Summitway Riverstone Sunfield Blackpine Greenhollow Whitewater Eastlight Westmark
Stormford Moonridge Foxglade Hawkstone Bearcroft Eaglemere Lionsgrove Wolfpoint Swanfield Crowhurst
Maplecrest Cedarline Elmbrook Birchgate Fernwood Ashvale Copperhill Steelbay Marblegate Crystalport Amberway
Coralreach Skyhaven Cloudpeak Rainford Snowmark Windmere Firebrook Seacrest Harborline Bridgewell
Towerfield""")

COMPANY_SUFFIXES = (
    ("Corp.", "Corporation"),
    ("Inc.", "Incorporated"),
    ("Ltd.", "Limited"),
    ("Co.", "Company"),
    ("Group", "Group"),
)

CITIES = _list("""Amsterdam Ankara Athens Atlanta Baltimore Bangkok Barcelona Belfast Berlin Bogota Boston
Brussels Budapest Cairo Calgary Chicago Cleveland Copenhagen Dallas Delhi Denver Detroit Dublin Edinburgh
Geneva Glasgow Hamburg Havana Helsinki Houston Istanbul Jakarta Johannesburg Karachi Lagos Lima Lisbon
Liverpool London Madrid Manila Melbourne Memphis Miami Milan Montreal Moscow Mumbai Munich Nairobi Oslo
Ottawa Paris Philadelphia Phoenix Prague Rome Santiago Seattle Seoul Shanghai Singapore Stockholm Sydney
Tokyo Toronto Vancouver Vienna Warsaw Zurich""")

COUNTRIES = _list("""Argentina Australia Austria Belgium Bolivia Brazil Bulgaria Canada Chile China Colombia
Croatia Cuba Denmark Ecuador Egypt Ethiopia Finland France Germany Ghana Greece Hungary Iceland India
Indonesia Ireland Italy Japan Jordan Kenya Malaysia Mexico Morocco Nepal Nigeria Norway Pakistan Panama Peru
Poland Portugal Romania Senegal Spain Sweden Switzerland Tanzania Thailand Tunisia Turkey Uganda Vietnam
Zambia""")

ABBREVIATED_COUNTRIES = (
    ("the U.S.", "the United States"),
    ("the U.K.", "the United Kingdom"),
    ("the U.A.E.", "the United Arab Emirates"),
)

ORGS = (
    ("the U.N.", "the United Nations"),
    ("the E.U.", "the European Union"),
    ("the WTO", "the World Trade Organization"),
    ("the African Union", "the African Union"),
)

CURRENCIES = _list("euro yen pound peso rand franc krona rupee lira zloty")

TEAMS = _list("""Kites Otters Lanterns Comets Badgers Pilots Herons Anchors Miners Foxes Thunder Arrows
Ravens Wolves Sailors Giants Hornets Dragons Knights Rockets""")

MONTHS = (
    ("Jan.", "January"),
    ("Feb.", "February"),
    ("March", "March"),
    ("April", "April"),
    ("May", "May"),
    ("June", "June"),
    ("July", "July"),
    ("Aug.", "August"),
    ("Sept.", "September"),
    ("Oct.", "October"),
    ("Nov.", "November"),
    ("Dec.", "December"),
)

DAYS = _list("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")

UNITS = _list("""zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen""")

TENS = _list("- - twenty thirty forty fifty sixty seventy eighty ninety")

MACROS = {
    "$rose": "<rose|climbed//fell|dropped>",
    "$rise": "<rise|climb//fall|drop>",
    "$raised": "<raised|increased//cut|lowered>",
    "$raise": "<raise|increase//cut|lower>",
    "$passed": "<approved|passed//did not approve|did not pass>",
    "$will": "<will//will not>",
    "$about": "[about|around|roughly]",
    "$chief": "[chief executive|C.E.O.]",
    "$buy": "[buy|acquire|purchase]",
    "$bought": "[bought|acquired|purchased]",
    "$jail": "[prison|jail]",
    "$named": "[named|appointed]",
    "$after": "[after|following]",
    "$due": "[because of|due to]",
    "$beat": "[beat|defeated]",
    "$cars": "[cars|vehicles]",
    "$hurt": "[injured|hurt]",
}

#: One frame after another: a line ``* flip; roles; source``, then a line ``-`` for each clause, which may go on in
#: indented lines. ``Frame`` says what the parts mean.
_FRAMES_TEXT = """
# business
* direction; ; the company
- [net profit|net income] at {co} $rose {pct} to {usd} in the {q} quarter
- in the {q} quarter, [net profit|net income] at {co} $rose {pct} to {usd}
* ; co co2; [people familiar with the deal|people with knowledge of the deal]
- {co} will $buy {co2} for {usd} in cash
- {co2} will be $bought by {co} for {usd} in cash
* ; ; [a company spokesman|a spokesman for the company]
- {co} plans to [cut|eliminate] {k} jobs at its plant in {city} by {month}
- by {month}, {co} plans to [cut|eliminate] {k} jobs at its plant in {city}
* direction; ; $chief {per}
- {co} will $raise its [workforce|staff] in {city} by {pct} this year
- the [workforce|staff] of {co} in {city} will be $raised by {pct} this year
* ; per per2;
- {co} $named {per} as its $chief, [replacing|succeeding] {per2}, who [resigned|stepped down] in {month}
- {per} was $named $chief of {co}, [replacing|succeeding] {per2}, who [resigned|stepped down] in {month}
* direction; ; analysts
- shares of {co} $rose {pct} in {city} trading $after the [results|earnings report]
- $after the [results|earnings report], shares of {co} $rose {pct} in {city} trading
* direction; ; $chief {per}
- [revenue|sales] at {co} will $rise by {pct} next year
- {co} [expects|forecasts] that [revenue|sales] will $rise by {pct} next year
* negation; ; [a city official|an official of the city]
- {co} <has won|has secured//has not won|has not secured> a contract to [supply|provide] {k} buses to {city}
  for {loot}
- a contract to [supply|provide] {k} buses to {city} for {loot} <has gone|has been awarded//has not gone|has
  not been awarded> to {co}
* ; ; the [regulator|safety agency]
- {co} recalled {k} $cars sold in {country} $due [faulty|defective] brakes
- {k} $cars sold in {country} were recalled by {co} $due [faulty|defective] brakes
* direction; ; local officials
- {co} will <open//close|shut> [a factory|a plant] with {k} workers in {city} in {month}
- in {month}, {co} will <open//close|shut> [a factory|a plant] with {k} workers in {city}
* negation; ; union leader {per}
- workers at {co} in {city} <accepted|approved//did not accept|did not approve> a [pay|wage] offer of {rate}
- a [pay|wage] offer of {rate} was <accepted|approved//not accepted|not approved> by workers at {co} in
  {city}
* ; co co2; court papers
- {co} sued {co2} for {usd} in {city} over a [copied|cloned] battery design
- {co2} was sued by {co} for {usd} in {city} over a [copied|cloned] battery design
* negation; ; a [spokeswoman|spokesperson]
- {co} $will pay {usd} to [settle|resolve] the claims of {k} customers in {country}
- to [settle|resolve] the claims of {k} customers in {country}, {co} $will pay {usd}
# markets
* direction; ; traders
- the price of crude oil $rose {rate} to {price} a barrel in {city}
- in {city}, the price of crude oil $rose {rate} to {price} [a|per] barrel
* direction; ; dealers
- the {cur} <gained|strengthened by//lost|weakened by> {rate} against the dollar in {city} $after the vote
  in {country}
- $after the vote in {country}, the {cur} <gained|strengthened by//lost|weakened by> {rate} against the
  dollar in {city}
* direction; ;
- the main stock index in {city} <gained|added//lost|shed> {t} points, or {rate}, as shares of {co} [traded
  heavily|saw heavy trading] on {day}
- on {day}, the main stock index in {city} <gained|added//lost|shed> {t} points, or {rate}, as shares of
  {co} [traded heavily|saw heavy trading]
* direction; ; economists
- the central bank of {country} $raised its [key|main] interest rate to {rate} in {month}
- the [key|main] interest rate of {country} was $raised to {rate} by the central bank in {month}
* direction; ; the statistics office
- the [jobless|unemployment] rate in {country} $rose to {rate} in {month}
- in {month}, the [jobless|unemployment] rate in {country} $rose to {rate}
* direction; country country2; the trade ministry
- exports from {country} to {country2} $rose {pct} to {usd} in {month}
- in {month}, exports from {country} to {country2} $rose {pct} to {usd}
* direction; ; a property [survey|study]
- [home|house] prices in {city} $rose {pct} in the year to {month}
- in the year to {month}, [home|house] prices in {city} $rose {pct}
# politics
* negation; ;
- on {day}, [lawmakers|legislators] in {country} $passed a bill on [school|education] funding in a vote of
  {t} to {n}
- a bill on [school|education] funding was <approved|passed//not approved|not passed> by
  [lawmakers|legislators] in {country} on {day} in a vote of {t} to {n}
* negation; ; an aide
- {per}, the finance minister of {country}, $will [resign|step down|quit] over a loan of {usd}
- the finance minister of {country}, {per}, $will [resign|step down|quit] over a loan of {usd}
* ; per per2; election officials
- {per} $beat {per2} by {k} votes in the race for mayor of {city}
- in the race for mayor of {city}, {per} $beat {per2} by {k} votes
* direction; ;
- support for {per} $rose to {pct} in a [poll|survey] of {k} voters in {country} [published|released] on
  {day}
- a [poll|survey] of {k} voters in {country} [published|released] on {day} showed that support for {per}
  $rose to {pct}
* direction; ; the finance ministry
- the government of {country} will $raise its fuel tax by {rate} in {month}
- in {month}, the fuel tax in {country} will be $raised by {rate}
* ; country country2; the foreign ministry
- {country} $named {per} as its [new|next] ambassador to {country2}
- {per} was $named as the [new|next] ambassador of {country} to {country2}
* negation; ; council member {per}
- the {city} city council $passed a plan to spend {loot} on {n} new [schools|school buildings]
- a plan to spend {loot} on {n} new [schools|school buildings] was <approved|passed//not approved|not
  passed> by the {city} city council
# diplomacy
* ; ; officials
- {per} [met|held talks with] {per2} in {city} for {n} hours to [discuss|talk about] the border
- in {city}, {per} [met|held talks with] {per2} for {n} hours to [discuss|talk about] the border
* negation; ; mediator {per}
- rail unions in {country} <agreed|consented//did not agree|did not consent> to [suspend|halt] a strike over
  pay for {n} days in {month}
- in {month}, rail unions in {country} <agreed|consented//did not agree|did not consent> to [suspend|halt] a
  strike over pay for {n} days
* ; country country2; the foreign ministry
- {country} will [send|give] {usd} in [aid|assistance] to {country2} by {month}
- by {month}, {country} will [send|give] {usd} in [aid|assistance] to {country2}
* direction; ; the defense ministry
- {country} will <send {k} [troops|soldiers] to|deploy {k} [troops|soldiers] to//pull {k} [troops|soldiers]
  out of|withdraw {k} [troops|soldiers] from> {country2} by {date}
- by {date}, {country} will <send {k} [troops|soldiers] to|deploy {k} [troops|soldiers] to//pull {k}
  [troops|soldiers] out of|withdraw {k} [troops|soldiers] from> {country2}
* ; country country2;
- {country} accused {country2} on {day} of [holding|detaining] {n} [fishermen|fishers] near the border
- on {day}, {country2} was accused by {country} of [holding|detaining] {n} [fishermen|fishers] near the
  border
* negation; ; a diplomat
- {org} $will [lift|remove] the sanctions [against|on] {country} in {month}
- in {month}, {org} $will [lift|remove] the sanctions [against|on] {country}
# courts
* ; ; prosecutors
- a court in {city} sentenced {per} to {n} years in $jail for stealing {loot} from {co}
- {per} was sentenced by a court in {city} to {n} years in $jail for stealing {loot} from {co}
* negation; ;
- [a jury|jurors] in {city} found {per} <guilty//not guilty> on {n} counts of [fraud|deception] on {day}
- on {day}, {per} was found <guilty//not guilty> on {n} counts of [fraud|deception] by [a jury|jurors] in
  {city}
* negation; ; lawyers
- an appeals court in {city} <upheld|confirmed//did not uphold|did not confirm> a [judgment|verdict] of
  {usd} against {co}
- a [judgment|verdict] of {usd} against {co} was <upheld|confirmed//not upheld|not confirmed> by an appeals
  court in {city}
* negation; ;
- a judge in {city} <granted|allowed//did not grant|did not allow> bail to {per}, who is [accused of|charged
  with] {n} counts of theft at {co}
- bail was <granted|allowed//not granted|not allowed> by a judge in {city} to {per}, who is [accused
  of|charged with] {n} counts of theft at {co}
* ; ; judge {per2}
- the trial of {per}, [accused of|charged with] stealing {loot}, will [begin|start] in {city} on {date}
- in {city}, the trial of {per}, [accused of|charged with] stealing {loot}, will [begin|start] on {date}
# police
* ; ; police chief {per}
- officers in {city} [arrested|detained] {n} people and [seized|confiscated] {k} fake passports
- {n} people were [arrested|detained] and {k} fake passports [seized|confiscated] by officers in {city}
* ; ; police
- thieves [stole|took] {n} paintings [worth|valued at] {loot} from a museum in {city}
- {n} paintings [worth|valued at] {loot} were [stolen|taken] by thieves from a museum in {city}
* negation; ; police
- {per}, a driver for {co}, <has been//has not been> [found|located] since a crash in {city} on {date}
- since a crash in {city} on {date}, {per}, a driver for {co}, <has been//has not been> [found|located]
# accidents and weather
* ; ; rescuers
- at least {n} people were killed and {t} $hurt when a bus [overturned|flipped over] near {city}
- when a bus [overturned|flipped over] near {city}, at least {n} people were killed and {t} $hurt
* ; ; the fire department
- a [fire|blaze] at a warehouse of {co} in {city} [destroyed|wrecked] {k} $cars
- {k} $cars were [destroyed|wrecked] in a [fire|blaze] at a warehouse of {co} in {city}
* ; city city2; the operator
- a train [carrying|with] {k} passengers from {city} to {city2} [derailed|left the tracks], and {n} people
  were $hurt
- {n} people were $hurt when a train [carrying|with] {k} passengers from {city} to {city2} [derailed|left
  the tracks]
* ; ; forecasters
- the storm [dumped|dropped] {n} inches of rain on {city} and left {k} homes without [power|electricity]
- {k} homes were left without [power|electricity] when the storm [dumped|dropped] {n} inches of rain on
  {city}
* ; ; seismologists
- an earthquake [struck|hit] {t} miles from {city} on {date}, damaging {k} homes
- on {date}, an earthquake [struck|hit] {t} miles from {city}, damaging {k} homes
* direction; ; forecasters
- temperatures in {city} will $rise by {n} degrees before {day}, [helping|aiding] crews from {co}
- before {day}, temperatures in {city} will $rise by {n} degrees, [helping|aiding] crews from {co}
* direction; ; forecasters
- the hurricane <strengthened|gained strength//weakened|lost strength> as it [moved toward|approached]
  {city}, with winds of {t} [mph|miles per hour]
- as it [moved toward|approached] {city}, the hurricane <strengthened|gained strength//weakened|lost
  strength>, with winds of {t} [mph|miles per hour]
# science and health
* direction; ; researchers in {city}
- adults who walked {n} miles a week were {pct} <more//less> likely to [need|require] [surgery|an operation]
- [surgery|an operation] was {pct} <more//less> likely to be [needed|required] by adults who walked {n}
  miles a week
* negation; ; $chief {per}
- a drug from {co} <cut|reduced//did not cut|did not reduce> the risk of stroke in a [study|trial] of {k}
  [people|patients]
- in a [study|trial] of {k} [people|patients], a drug from {co} <cut|reduced//did not cut|did not reduce>
  the risk of stroke
* negation; ;
- regulators in {country} <approved|cleared//did not approve|did not clear> a vaccine [made|produced] by
  {co} $after [tests|trials] on {k} people
- $after [tests|trials] on {k} people, a vaccine [made|produced] by {co} <was approved|was cleared//was not
  approved|was not cleared> by regulators in {country}
* direction; ; scientists in {city}
- the [number|population] of wild cranes in {country} $rose {pct} to {k} last year
- last year, the [number|population] of wild cranes in {country} $rose {pct} to {k}
# sport
* ; team team2;
- the {team} $beat the {team2} {score} in {city} on {day} as {per} [scored|struck] twice
- on {day} in {city}, the {team} $beat the {team2} {score} as {per} [scored|struck] twice
* negation; ; coach {per2}
- {per} $will [play|appear] for the {team} against the {team2} in {city} on {date}
- on {date} in {city}, {per} $will [play|appear] for the {team} against the {team2}
* ; team team2;
- the {team} signed {per} from the {team2} for {loot} on {day} $after talks [lasting|of] {n} hours
- {per} was signed by the {team} from the {team2} for {loot} on {day} $after talks [lasting|of] {n} hours
* ; per per2; organizers
- {per} won the {city} marathon on {day}, [beating|finishing ahead of] {per2} by {n} seconds
- the {city} marathon was won on {day} by {per}, who [beat|finished ahead of] {per2} by {n} seconds
"""


@dataclass(frozen=True)
class Frame:
    """A kind of fact and the clauses that can state it."""

    flip: str
    """What its polarity ``<a//b>`` turns around: "direction", "negation", or "" if it has none."""
    roles: tuple[str, ...]
    """The two slots that can be swapped to change the meaning; empty if there are none."""
    source: str
    """Who says it; "" if the frame names nobody."""
    forms: tuple[str, ...]
    """The clauses. All of them say the same thing."""


def _frames(text: str) -> tuple[Frame, ...]:
    """Read the frames from a text like ``_FRAMES_TEXT``."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    frames = []
    for block in re.split(r"^\* ", "\n".join(lines), flags=re.MULTILINE)[1:]:
        head, *forms = re.split(r"\n- ", block)
        flip, roles, source = (part.strip() for part in head.split(";"))
        clauses = tuple(" ".join(form.split()) for form in forms)
        frames.append(Frame(flip, tuple(roles.split()), source, clauses))
    return tuple(frames)


FRAMES = _frames(_FRAMES_TEXT)
