"""What mails say. Plain text, a subject without secrets, one code or link in the body.

What strangers chose (an organisation's name) is put on one line and cut, so that it cannot look like ours.
"""

from bursar.delivery.mail import Mail

_NAME_MAX = 60


def verification(to: str, code: str) -> Mail:
    """Return the mail with the code that proves an address."""
    text = f"""Your code for Bursar:

    {code}

Enter it within ten minutes. It works once. If you did not sign up, ignore this mail.
"""
    return Mail("verify", to, "Your Bursar verification code", text)


def reset(to: str, code: str) -> Mail:
    """Return the mail with the code that allows a new password."""
    text = f"""Somebody, probably you, wants a new password for this address. The code:

    {code}

Enter it within ten minutes. It works once. If it was not you, ignore this mail: nothing has changed.
"""
    return Mail("reset", to, "Your Bursar password reset code", text)


def known_already(to: str) -> Mail:
    """Return the mail for somebody who signs up a second time where answers tell nothing."""
    text = """Somebody, probably you, signed up for Bursar with this address. It has an account already:
log in, or ask for a new password. If it was not you, ignore this mail: nothing has changed.
"""
    return Mail("known", to, "You already have a Bursar account", text)


def password_changed(to: str) -> Mail:
    """Return the mail that tells of a new password."""
    text = """The password of your Bursar account was changed, and every earlier session has ended.
If it was not you, ask for a new password at once.
"""
    return Mail("password_changed", to, "Your Bursar password was changed", text)


def invitation(to: str, org_name: str, role: str, code: str, base_url: str) -> Mail:
    """Return the mail with an invitation's code; `base_url` may be empty."""
    where = f"{base_url}/v1/auth/accept-invitation" if base_url else "/v1/auth/accept-invitation"
    text = f"""You are invited to join an organisation on Bursar.

    Organisation: {one_line(org_name)}
    Role:         {role}
    Code:         {code}

Accept within seven days by sending the code to {where}, with a password if you have no account yet.
The code works once. If you expected no invitation, ignore this mail.
"""
    return Mail("invitation", to, "An invitation to Bursar", text)


def one_line(text: str) -> str:
    """Return `text` without line breaks and control characters, at most 60 characters of it."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    cut = " ".join(shown.split())
    return cut if len(cut) <= _NAME_MAX else f"{cut[: _NAME_MAX - 1]}…"
