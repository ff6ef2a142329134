"""What the routes of accounts are sent.

Fields that nobody asked for are ignored: the clients of AgentKavach's dashboard send some, and none of them
can name an organisation, a role or a user.
"""

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from bursar.identity.codes import Purpose
from bursar.identity.users import EMAIL_LENGTH_MAX

_PASSWORD_MAX = 1_024
"""Longer than a password may be, so that the sentence about passwords is ours."""

_NAME_MAX = 256
_TOKEN_MAX = 2_048


def _email() -> str:
    field: str = Field(max_length=EMAIL_LENGTH_MAX, description="Such as alice@example.com.")
    return field


def _password(description: str) -> str:
    field: str = Field(max_length=_PASSWORD_MAX, description=description)
    return field


class _Form(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class Registration(_Form):
    """Somebody who begins an organisation."""

    email: str = _email()
    password: str = _password("8 to 256 characters, none of the commonest.")
    org_name: str = Field(min_length=1, max_length=_NAME_MAX, description="Of the new organisation.")
    first_name: str = Field(default="", max_length=_NAME_MAX)
    last_name: str = Field(default="", max_length=_NAME_MAX)


class Credentials(_Form):
    """An address and its password."""

    email: str = _email()
    password: str = _password("As it was chosen.")


class CodeShown(_Form):
    """A code that came by mail, and the address that it came to."""

    email: str = _email()
    code: str = Field(max_length=64, description="Six digits.")


class CodeWanted(_Form):
    """Where to send a fresh code, and what for."""

    email: str = _email()
    purpose: Purpose = Field(default=Purpose.VERIFY, description="verify or reset.")


class Address(_Form):
    """An address."""

    email: str = _email()


class NewPassword(_Form):
    """A reset token and the password to come."""

    reset_token: str = Field(
        max_length=_TOKEN_MAX,
        validation_alias=AliasChoices("reset_token", "token"),
        description="From verify-reset-code.",
    )
    new_password: str = Field(
        max_length=_PASSWORD_MAX,
        validation_alias=AliasChoices("new_password", "password"),
        description="8 to 256 characters, none of the commonest.",
    )


class PasswordChange(_Form):
    """The old password and the new one."""

    current_password: str = Field(
        max_length=_PASSWORD_MAX,
        validation_alias=AliasChoices("current_password", "old_password"),
        description="As it is now.",
    )
    new_password: str = _password("8 to 256 characters, none of the commonest.")


class TokenShown(_Form):
    """A token to exchange, for clients that do not send it in the Authorization header."""

    refresh_token: str = Field(
        default="",
        max_length=_TOKEN_MAX,
        validation_alias=AliasChoices("refresh_token", "refreshToken", "access_token", "token"),
        description="The access token, up to 24 hours after its end.",
    )


class Place(_Form):
    """Another organisation of the user."""

    organisation: str = Field(
        max_length=_NAME_MAX,
        validation_alias=AliasChoices("organisation", "organization", "org"),
        description="Its id or name.",
    )


class Acceptance(_Form):
    """An invitation's code, and who accepts it."""

    code: str = Field(max_length=128, description="From the mail.")
    password: str = Field(
        default="",
        max_length=_PASSWORD_MAX,
        description="To choose, without an account; else the account's, unless you send its token.",
    )
    first_name: str = Field(default="", max_length=_NAME_MAX)
    last_name: str = Field(default="", max_length=_NAME_MAX)


class FirstOwner(_Form):
    """Who becomes the owner."""

    email: str = _email()
    password: str = _password("8 to 256 characters, none of the commonest.")
    first_name: str = Field(default="", max_length=_NAME_MAX)
    last_name: str = Field(default="", max_length=_NAME_MAX)
