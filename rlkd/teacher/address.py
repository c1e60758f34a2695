"""The address of a teacher's server: whether it is one, and how it may be shown."""

from urllib.parse import urlsplit, urlunsplit

_ENDPOINTS = ("/completions", "/models", "/generate")


def check_address(url: str) -> None:
    """Paths can be put behind it, and nothing in it must stay secret.

    Raises:
        ValueError: it is no address, one of the server's endpoints, or holds a user name, a
            password or a query.
    """
    parts = urlsplit(url)
    try:
        _ = parts.port  # raises where it is none
    except ValueError as error:
        raise ValueError(f"url: {error}; it must be like http://localhost:8000") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url is {shown(url)!r}; it must be like http://localhost:8000")
    if parts.username or parts.password:
        raise ValueError(
            f"url is {shown(url)!r} with a user name or password in it, which would end up in "
            "logs and in run.json; put the key into an environment variable and name it in "
            "api_key_env"
        )
    if parts.query or parts.fragment:
        raise ValueError(
            f"url is {parts.scheme}://{parts.netloc}{parts.path} with something behind a ? or #; "
            "paths are put behind it, and a key there would end up in logs. Leave it out; a key "
            "belongs into an environment variable, named in api_key_env"
        )
    if parts.path.rstrip("/").endswith(_ENDPOINTS):
        raise ValueError(
            f"url is {shown(url)!r}, which is one of the server's endpoints; they are put behind "
            f"it. Give the address alone: {parts.scheme}://{parts.netloc}"
        )


def shown(url: str) -> str:
    """The URL without user name, password and query."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return urlunsplit(
        (parts.scheme, host + (f":{parts.port}" if parts.port else ""), parts.path, "", "")
    )
