"""Files of what a page shows once, such as a private key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thingmint.console.page import action
from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from thingmint.console.page import Call
    from thingmint.http.messages import Answer

_NAME = re.compile(r"[A-Za-z0-9-]{1,128}(?:\.[a-z]{1,8}){0,2}")
_MAX_TEXT = 65_536


@action("/file", "SaveFile")
async def save_file(call: Call) -> Answer:
    """Sends the text of the form back as a file. The server keeps nothing of it.

    A link with the text in its address would need no server, but browsers keep the addresses of downloads.
    """
    name, text = call.form.text("name", 160), call.form.exact("text")
    if not _NAME.fullmatch(name):
        raise Invalid("name", "must be a file name")
    if len(text) > _MAX_TEXT:
        raise Invalid("text", f"must have at most {_MAX_TEXT} characters")
    return call.download(text.replace("\r\n", "\n"), name, "application/octet-stream")
