"""How a value is written, in the style in which the old one stood there.

A diff that turns ``3e-4`` into ``1.1e-3`` and ``2**15`` into ``2**16`` is read at a glance; one that
turns them into ``0.0011`` and ``65536`` is not.
"""

from __future__ import annotations

import ast
import json
import re
from decimal import Decimal
from typing import Literal

Value = bool | int | float | str
Syntax = Literal["python", "yaml", "toml"]

_BOOLEAN_PAIRS = (("true", "false"), ("yes", "no"), ("on", "off"))


def spell(value: Value, old: str, syntax: Syntax) -> str:
    """Source text for ``value`` where ``old`` stood. The caller proves by parsing that it reads back."""
    if isinstance(value, bool):
        return _boolean(value, old, syntax)
    if isinstance(value, str):
        return _text(value, old)
    if isinstance(value, int):
        return _integer(value, old, syntax)
    return _float(value, old, syntax)


def _boolean(value: bool, old: str, syntax: Syntax) -> str:
    if syntax == "python":
        return str(value)
    for pair in _BOOLEAN_PAIRS:
        if old.lower() in pair:
            word = pair[0] if value else pair[1]
            return word.upper() if old.isupper() else word.capitalize() if old[0].isupper() else word
    return "true" if value else "false"


def _text(value: str, old: str) -> str:
    if old[:1] == "'" and "'" not in value and value.isprintable() and "\\" not in value:
        return f"'{value}'"
    return json.dumps(value) if old[:1] in "'\"" else value


def _integer(value: int, old: str, syntax: Syntax) -> str:
    if syntax == "python":
        power = re.fullmatch(r"(\d+)(\s*\*\*\s*)(\d+)", old)
        if power and value > 0:
            base = int(power[1])
            exponent = _exponent(value, base)
            if exponent is not None:
                return f"{power[1]}{power[2]}{exponent}"
        shift = re.fullmatch(r"1(\s*<<\s*)(\d+)", old)
        if shift and value > 0 and value & (value - 1) == 0:
            return f"1{shift[1]}{value.bit_length() - 1}"
        product = re.fullmatch(r"([\d_]+)(\s*\*\s*)([\d_]+)", old)
        if product:
            factor = int(product[3])
            if factor and value % factor == 0:
                return f"{value // factor}{product[2]}{product[3]}"
    if re.fullmatch(r"0[xX][0-9a-fA-F_]+", old):
        return hex(value)
    if "_" in old and re.fullmatch(r"[-+]?[\d_]+", old):
        return f"{value:_}"
    return str(value)


def _exponent(value: int, base: int) -> int | None:
    if base < 2:
        return None
    exponent = 0
    while value % base == 0:
        value //= base
        exponent += 1
    return exponent if value == 1 else None


def _float(value: float, old: str, syntax: Syntax) -> str:
    """Scientific stays scientific and positional stays positional; both always read back as a float."""
    written = re.fullmatch(r"[-+]?\d[\d_]*(\.?)[\d_]*([eE])([-+]?)\d+", old) or re.fullmatch(
        r"[-+]?(\.)\d[\d_]*([eE])([-+]?)\d+", old
    )
    if written:
        sign, digits, exponent = Decimal(repr(value)).as_tuple()
        assert isinstance(exponent, int)
        body = "".join(map(str, digits)).rstrip("0") or "0"
        power = exponent + len(digits) - 1 if any(digits) else 0
        mantissa = body[0] + ("." + body[1:] if len(body) > 1 else "")
        if written[1] and "." not in mantissa:
            # PyYAML reads "1e-3" as text and "1.0e-3" as a number: a dot that was there must stay.
            mantissa += ".0"
        plus = "+" if power >= 0 and (written[3] == "+" or (syntax == "yaml" and written[1])) else ""
        return f"{'-' if sign else ''}{mantissa}{written[2]}{plus}{power}"
    if 1e-7 <= abs(value) < 1e16 or value == 0:
        text = format(Decimal(repr(value)), "f")
        return text if "." in text else text + ".0"
    text = repr(value)
    mantissa, _, power_text = text.partition("e")
    if power_text and "." not in mantissa:
        text = f"{mantissa}.0e{power_text}"
    return text


def evaluate(node: ast.expr) -> Value | None:
    """The value of a literal or of plain arithmetic on literals (``2**15``, ``64 * 1024``, ``-1.0``).

    None for anything else, and for powers or sizes no hyperparameter has: nothing is ever executed.
    """
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, bool | int | float | str) else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = evaluate(node.operand)
        if isinstance(inner, bool | str) or inner is None:
            return None
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp):
        left, right = evaluate(node.left), evaluate(node.right)
        if left is None or right is None or isinstance(left, bool | str) or isinstance(right, bool | str):
            return None
        return _arithmetic(node.op, left, right)
    return None


def _arithmetic(operator: ast.operator, left: int | float, right: int | float) -> int | float | None:
    try:
        result: object = None
        if isinstance(operator, ast.Add):
            result = left + right
        elif isinstance(operator, ast.Sub):
            result = left - right
        elif isinstance(operator, ast.Mult):
            result = left * right
        elif isinstance(operator, ast.Div):
            result = left / right
        elif isinstance(operator, ast.FloorDiv):
            result = left // right
        elif isinstance(operator, ast.Pow) and abs(right) <= 64 and abs(left) <= 1e6:
            result = left**right
        elif isinstance(operator, ast.LShift) and isinstance(left, int) and isinstance(right, int):
            result = left << right if 0 <= right <= 64 and abs(left) <= 1e6 else None
    except (ArithmeticError, ValueError):
        return None
    if isinstance(result, int) and not isinstance(result, bool):
        return result
    return result if isinstance(result, float) and abs(result) < 1e300 else None
