"""People for tests: signed up, verified, logged in."""

from typing import NamedTuple

from bursar.core.ids import Org, text_from_id
from bursar.identity.accounts import Accounts, SignedIn
from bursar.identity.people import Decider, People
from bursar.identity.roles import Role
from support.desk import Desk

PASSWORD = "correct horse battery"
OPERATOR = Decider("operator", None, is_operator=True)


class Person(NamedTuple):
    """Somebody with an access token."""

    email: str
    token: str
    user: bytes
    org: Org
    org_id: bytes

    @property
    def org_text(self) -> str:
        return text_from_id("org", self.org_id)

    @property
    def user_text(self) -> str:
        return text_from_id("usr", self.user)


def accounts(desk: Desk) -> Accounts:
    return desk.treasury.identity.accounts


def people(desk: Desk) -> People:
    return desk.treasury.identity.people


def person_of(signed: SignedIn) -> Person:
    place = signed.membership
    return Person(signed.user.email, signed.token, signed.user.id, place.org, place.org_id)


def sign_up(desk: Desk, email: str, org_name: str = "their own") -> Person:
    """Register with a new organisation, verify, and be logged in."""
    issued = desk.run(accounts(desk).register(email, PASSWORD, org_name))
    return person_of(desk.run(accounts(desk).verify_email(email, issued.code)))


def log_in(desk: Desk, email: str, password: str = PASSWORD) -> Person:
    return person_of(desk.run(accounts(desk).log_in(email, password)))


def join(desk: Desk, email: str, role: Role, org: Org) -> Person:
    """Become a member of an organisation in a role, and log in."""
    desk.run(people(desk).add_verified(org, email, PASSWORD, role, by=OPERATOR))
    return log_in(desk, email)


def status(desk: Desk, credential: str, path: str = "/v1/events") -> int:
    return desk.get(path, key=credential).status_code
