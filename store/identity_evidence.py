"""What a record holds that may show who it is: ids, domains, addresses, keys, and its name."""

# ruff: noqa: SIM905 - long lists of words are easier to read as text

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

import idna
from sqlalchemy import RowMapping

from store.canonical import Key, Scalar
from store.identity_rules import (
    ACCOUNTS,
    CONTACTS,
    MATCHED_STREAMS,
    NATIVE_ID,
    MatchRule,
    StreamRules,
)
from store.scalars import decode_fields, encode
from store.tables import RECORD_TABLES

Row: TypeAlias = Mapping[str, Any] | RowMapping
"""A record's columns by their names."""

LONGEST_VALUE: Final = 250
"""Characters; what is longer is a text and no key."""

_LONGEST_HOST: Final = 253
_SHORT_ID, _LONG_ID = 15, 18


@lru_cache(maxsize=1)
def _suffixes() -> frozenset[str]:
    """The public suffixes; the list comes with the library, nothing is fetched.

    Suffixes of hosters are taken for public, too: the shops of one hoster are not one customer.
    """
    # It brings an HTTP client along: a fifth of a second at the start of each command.
    import tldextract  # noqa: PLC0415

    bundled = tldextract.TLDExtract(
        cache_dir=None, suffix_list_urls=(), include_psl_private_domains=True
    )
    # Hosts are compared as they go over the wire.
    return frozenset(
        one if one.isascii() else idna.encode(one.lstrip("*.!"), uts46=True).decode("ascii")
        for one in bundled.tlds
    )


FREE_MAIL: Final = frozenset(
    """
    126.com 163.com 1und1.de aim.com alice.it aliceadsl.fr aol.com aol.de arcor.de att.net
    bellsouth.net bigpond.com bigpond.net.au bluewin.ch bol.com.br btinternet.com centrum.cz
    charter.net comcast.net cox.net daum.net duck.com earthlink.net email.cz email.de fastmail.com
    fastmail.fm foxmail.com free.fr freemail.hu freenet.de frontier.com gmail.com gmail.de gmx.at
    gmx.ch gmx.com gmx.de gmx.fr gmx.net googlemail.com hanmail.net hey.com home.nl hotmail.be
    hotmail.ch hotmail.co.uk hotmail.com hotmail.de hotmail.es hotmail.fr hotmail.it hotmail.nl
    hushmail.com icloud.com inbox.lv inbox.ru iinet.net.au interia.pl juno.com kabelmail.de
    kolumbus.fi kpnmail.nl laposte.net libero.it list.ru live.at live.be live.ca live.cn
    live.co.uk live.com live.com.au live.de live.dk live.fr live.it live.nl live.se luukku.com
    mac.com mail.bg mail.com mail.de mail.ee mail.ru mailbox.org mail.com.tr me.com msn.com
    naver.com neuf.fr nifty.com ntlworld.com o2.pl onet.pl online.de online.no optonline.net
    optusnet.com.au orange.fr outlook.at outlook.com outlook.com.br outlook.de outlook.es
    outlook.fr outlook.it pm.me pobox.com posteo.de proton.me protonmail.ch protonmail.com qq.com
    rambler.ru rediffmail.com rocketmail.com rogers.com sapo.pt sbcglobal.net seznam.cz sfr.fr
    shaw.ca sina.com sky.com skynet.be sohu.com spray.se sunrise.ch sympatico.ca t-online.de
    talktalk.net telenet.be telia.com telus.net terra.com.br terra.es tin.it tiscali.co.uk
    tiscali.it tutanota.com tuta.io uol.com.br utanet.at verizon.net videotron.ca virgilio.it
    virginmedia.com vodafone.de vodafone.it volny.cz wanadoo.fr web.de windstream.net wp.pl
    xs4all.nl xtra.co.nz ya.ru yahoo.ca yahoo.co.in yahoo.co.jp yahoo.co.uk yahoo.com
    yahoo.com.ar yahoo.com.au yahoo.com.br yahoo.com.mx yahoo.de yahoo.es yahoo.fr yahoo.in
    yahoo.it yandex.com yandex.ru yeah.net ymail.com zoho.com zoznam.sk
    """.split()
)
"""Where people have a mailbox without being the company: such a domain proves nothing."""

SHARED_SITES: Final = frozenset(
    """
    amazon.com bit.ly ebay.com etsy.com facebook.com fb.com github.com google.com instagram.com
    jimdo.com linkedin.com linktr.ee medium.com paypal.com pinterest.com snapchat.com t.me
    telegram.org tiktok.com tumblr.com twitch.tv twitter.com vimeo.com vk.com wa.me whatsapp.com
    wikipedia.org wix.com wordpress.com x.com xing.com yelp.com youtube.com
    """.split()
)
"""Where companies have a page that is not their own."""


# ---------------------------------------------------------------- values


# Copies of a record mostly say the same, and a page is read as it was and as it will be.
@lru_cache(maxsize=20_000)
def domain_of(text: str) -> str | None:
    """The domain that somebody registered, of a web address, a host name or an e-mail address.

    None where there is none, or where it belongs to nobody in particular: free mailboxes, pages
    within other people's sites, addresses by number.
    """
    host = _host_of(text)
    if host is None:
        return None
    found = registered_part(host)
    return found if found and found not in FREE_MAIL and found not in SHARED_SITES else None


def registered_part(host: str) -> str | None:
    """A public suffix and the label before it: https://publicsuffix.org/list/.

    None: the host is itself a public suffix.
    """
    suffixes, labels = _suffixes(), host.split(".")
    if len(labels) == 2 and labels[1] in suffixes and host not in suffixes:  # noqa: PLR2004 - the most
        wild = f"*.{labels[1]}"
        return host if wild not in suffixes or f"!{host}" in suffixes else None
    for start in range(len(labels)):
        tail = ".".join(labels[start:])
        if f"!{tail}" in suffixes:
            return tail
        wild = ".".join(("*", *labels[start + 1 :]))
        if tail in suffixes or (wild in suffixes and start + 1 < len(labels)):
            return ".".join(labels[start - 1 :]) if start else None
    # Of a suffix that the list does not know the last label is public.
    return ".".join(labels[-2:])


_PLAIN_HOST: Final = re.compile(r"(?:https?://)?((?:[a-z0-9-]+\.)+[a-z]{2,})/?")
_SCHEME: Final = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?/{2,}|^mailto:")
_END_OF_HOST: Final = re.compile(r"[/?#\\\s,;]")


def _host_of(text: str) -> str | None:
    address = text.strip().lower()
    plain = _PLAIN_HOST.fullmatch(address)
    if plain is not None and len(address) < _LONGEST_HOST:
        return plain.group(1)
    host = _SCHEME.sub("", address.strip("<>\"'"))
    host = _END_OF_HOST.split(host, maxsplit=1)[0].rpartition("@")[2]
    host = host.partition(":")[0].strip(".")
    if not host or len(host) > _LONGEST_HOST or "." not in host or _is_number(host):
        return None
    if not host.isascii():
        try:
            return idna.encode(host, uts46=True).decode("ascii")
        except idna.IDNAError:
            return None
    return host if all(host.split(".")) else None


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def email_of(text: str) -> str | None:
    """An e-mail address as it is compared; None: it is none."""
    address = text.strip().strip("<>").casefold()
    local, at, host = address.partition("@")
    if not (local and at and "." in host) or "@" in host or re.search(r"\s", address):
        return None
    return address


def id_of(text: str, *, is_of_salesforce: bool) -> str | None:
    """An id as it is compared: those of Salesforce with 18 characters."""
    value = text.strip()
    if is_of_salesforce and len(value) in (_SHORT_ID, _LONG_ID):
        return with_checksum(value[:_SHORT_ID])
    return value or None


def with_checksum(short: str) -> str:
    """The 18 characters of an id of 15: the last three say which letters are capital.

    https://help.salesforce.com/s/articleView?id=000385008&type=1
    """
    return (
        short
        + _MARKS[_capitals(short[:5])]
        + _MARKS[_capitals(short[5:10])]
        + _MARKS[_capitals(short[10:])]
    )


_MARKS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


@lru_cache(maxsize=20_000)
def _capitals(part: str) -> int:
    return sum(1 << place for place, letter in enumerate(part) if "A" <= letter <= "Z")


def key_of(text: str) -> str | None:
    """A key of the user's own as it is compared: without its case and its spaces."""
    return "".join(text.split()).casefold() or None


# ---------------------------------------------------------------- records


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides for whom a record stands."""

    deleted: bool = False
    merged_into: Key | None = None
    name: str | None = None
    created_at: int | None = None
    keys: tuple[tuple[int, str], ...] = ()
    """Place of a rule and the value that the record holds by it."""


UNKNOWN: Final = Standing()
"""A record that is named and not stored."""


class Evidence:
    """Reads what shows who a record is from its row, as stored or as staged."""

    def __init__(self, stream: str, rules: StreamRules) -> None:
        self.stream = stream
        self.rules = rules.rules
        table = RECORD_TABLES[stream]
        fields = {name for rule in self.rules for _, name in rule.fields} - {NATIVE_ID}
        self._canonical = frozenset(name for name in fields if name in table.c)
        self._has_own = bool(fields - self._canonical)
        names = ["deleted", "merged_into"]
        if stream == CONTACTS:
            names.append("account")
        if self.rules:
            names += ["name", "created_at", *sorted(self._canonical - {"name", "account"})]
        if self._has_own:
            names.append("extra")
        self._by_connection: dict[str, list[tuple[int, MatchRule, str]]] = {}
        self.columns: tuple[str, ...] = tuple(dict.fromkeys(names))
        """Columns of the record that matter, beside its key."""

    def standing(self, ref: Key, row: Row) -> Standing:
        """What a record's row says.

        Args:
            ref: the record.
            row: at least `columns`.
        """
        merged_into: Key | None = row["merged_into"]
        deleted = bool(row["deleted"])
        if self.stream == CONTACTS and merged_into is not None and merged_into == row["account"]:
            # A person who is a customer is folded into the account, and stays a person.
            merged_into, deleted = None, False
        if not self.rules:
            return Standing(deleted, merged_into)
        return Standing(
            deleted,
            merged_into,
            row["name"],
            row["created_at"],
            tuple(self._keys(ref, row, deleted=deleted, merged=merged_into is not None)),
        )

    def _keys(
        self, ref: Key, row: Row, *, deleted: bool, merged: bool
    ) -> Iterator[tuple[int, str]]:
        if deleted and not merged:
            return
        connection, _, native_id = ref.partition(":")
        own: Mapping[str, Scalar] | None = None
        for place, rule, field in self._of_connection(connection):
            # What a merged record said is said by its winner now, but its id still names it.
            if merged and field != NATIVE_ID:
                continue
            if field == NATIVE_ID:
                text: str | None = native_id
            elif field in self._canonical:
                value = row[field]
                text = None if value is None else str(value)
            else:
                if own is None:
                    own = decode_fields(row["extra"])
                text = _text_of(own.get(field))
            compared = None if text is None else compared_value(rule, text)
            if compared is not None:
                yield place, compared

    def _of_connection(self, connection: str) -> list[tuple[int, MatchRule, str]]:
        """The rules that concern a connection's records, each with its place and their field."""
        known = self._by_connection.get(connection)
        if known is None:
            known = self._by_connection[connection] = [
                (place, rule, field)
                for place, rule in enumerate(self.rules)
                if (field := rule.field_of(connection)) is not None
            ]
        return known


def _text_of(value: Scalar) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return encode(value).strip('"')


def compared_value(rule: MatchRule, text: str) -> str | None:
    """What of a field's text is compared; None: it proves nothing."""
    if rule.kind == "domain":
        value = domain_of(text)
    elif rule.kind == "email":
        value = email_of(text)
        if value is not None and value.rpartition("@")[2] in rule.ignore:
            return None
    elif rule.kind == "same":
        value = id_of(text, is_of_salesforce=rule.has_salesforce_ids)
    else:
        value = key_of(text)
    if value is None or value in rule.ignore or len(value) > LONGEST_VALUE:
        return None
    return value


def is_matched(stream: str) -> bool:
    """Whether records of a stream can stand for others."""
    return stream in MATCHED_STREAMS


def ends_with_nobody(stream: str) -> bool:
    """Whether what belongs to a deleted record of this stream belongs to nobody."""
    return stream == ACCOUNTS


# ---------------------------------------------------------------- certainty

CERTAIN: Final = 1000
LINKED: Final = 980
KEYED: Final = 950
CROWDED: Final = 400
_UNNAMED: Final = 800
_EQUAL: Final = 950
_WITHIN: Final = 900
_INITIALS: Final = 850
_ALIKE: Final = 800
_DIFFERENT: Final = 600
_ROLE: Final = 550

LEGAL_FORMS: Final = frozenset(
    """
    ab ag as asa aps bv bvba co company corp corporation cv eg ek eu ev gbr gesmbh gmbh inc
    incorporated kft kg kgaa limited llc llp ltd ltda mbh nv ohg oy oyj plc pte pty sa sarl sas
    sasu se sl spa spol srl sro the ug und and zoo
    """.split()
)

ROLES: Final = frozenset(
    """
    accounting admin buchhaltung contact contacto einkauf enquiries hello help hr info jobs
    kontakt mail marketing noreply no-reply office order orders post postmaster press purchasing
    reception rechnung sales service support team vertrieb webmaster
    """.split()
)


def certainty(rule: MatchRule, value: str, one: str | None, other: str | None) -> int:
    """How sure it is, in thousandths, that two records which alone hold a value are one.

    Args:
        rule: by which they hold it.
        value: what they hold.
        one: the name of the one.
        other: the name of the other.
    """
    if rule.kind == "same":
        return LINKED
    if rule.kind == "key":
        return KEYED
    if rule.kind == "email":
        is_role = value.partition("@")[0] in ROLES
        likeness = likeness_of(one, other)
        return _ROLE if is_role and likeness == _DIFFERENT else KEYED
    return likeness_of(one, other)


def likeness_of(one: str | None, other: str | None) -> int:
    """How much two names speak for one bearer, in thousandths."""
    if one and one == other and one.isalpha():
        return _EQUAL
    first, second = words_of(one or ""), words_of(other or "")
    if not first or not second:
        return _UNNAMED
    if set(first) == set(second) or "".join(first) == "".join(second):
        return _EQUAL
    if set(first) < set(second) or set(second) < set(first):
        return _WITHIN
    if _are_initials(first, second) or _are_initials(second, first):
        return _INITIALS
    if any(len(word) > 2 and word in second for word in first):  # noqa: PLR2004 - no "de", no "of"
        return _ALIKE
    return _DIFFERENT


def _are_initials(short: tuple[str, ...], long: tuple[str, ...]) -> bool:
    return len(short) == 1 and len(long) > 1 and short[0] == "".join(word[0] for word in long)


_WORD: Final = re.compile(r"[^\W_]+")


@lru_cache(maxsize=20_000)
def words_of(name: str) -> tuple[str, ...]:
    """The words of a name that tell companies apart: no accents, no case, no legal form."""
    letters = name.casefold()
    if not name.isascii():
        plain = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
        letters = "".join(one for one in plain if not unicodedata.combining(one)).casefold()
    words = tuple(_WORD.findall(letters.replace(".", "").replace("'", "")))
    telling = tuple(word for word in words if word not in LEGAL_FORMS)
    return telling or words
