"""The half of the console's program that faces the terminal: theme, filters, mouse, keys, clipboard, pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.app import App
from textual.events import Event, Key
from textual.filter import LineFilter
from textual.theme import BUILTIN_THEMES, Theme

from console import ascii_signs, keymap, remapping, screen_keys, themes
from console.filters import Ascii, Colourless
from console.preferences import Preferences
from console.widgets import lines

if TYPE_CHECKING:
    from engine.clock import Clock

HOLD_SECONDS = 0.5


def remote(environ: Mapping[str, str]) -> bool:
    """Over SSH: mouse motion alone costs kilobytes there."""
    return bool(environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"))


@dataclass(frozen=True, slots=True)
class Looks:
    """How the console begins on this terminal."""

    theme: str = "dark"
    ascii: bool = False
    mouse: bool = True
    keys: Mapping[str, tuple[str, ...]] | None = None  # remapped ones only


def looks(chosen: Preferences, environ: Mapping[str, str]) -> Looks:
    """What the person chose, and where they chose nothing what suits the terminal."""
    return Looks(
        chosen.theme or themes.suiting(environ),
        ascii_signs.wanted(environ) if chosen.ascii is None else chosen.ascii,
        not remote(environ) if chosen.mouse is None else chosen.mouse,
        chosen.keys,
    )


class Appearance(App[int], inherit_bindings=False):
    """Mixed under ConsoleApp. The terminal is described by the environment that the program was started in."""

    def __init__(self, begin: Looks) -> None:
        super().__init__()
        self.mouse_on = begin.mouse
        self._sent: tuple[LineFilter, ...] = ()
        self._ascii = (Ascii(),) if begin.ascii else ()
        keys = dict(begin.keys or {})
        keymap.install({action: " ".join(map(remapping.spoken, found)) for action, found in keys.items()})
        self.set_keymap(_bound(keys))
        self._put_on(begin.theme)
        self.set_reactive(App.theme, f"ratchet-{begin.theme}")
        self.stylesheet.set_variables(self.get_css_variables())

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(themes.DARK.css)

    def get_line_filters(self) -> tuple[LineFilter, ...]:
        """None of Textual's own: they would turn the terminal's colours into others, and NO_COLOR into greys."""
        return self._sent

    def _put_on(self, name: str) -> None:
        theme = themes.theme(name, os.environ)
        lines.wear(theme)
        self.register_theme(_textual(theme))
        self._sent = (*(() if theme.coloured else (Colourless(),)), *self._ascii)

    @property
    def wearing(self) -> str:
        """The theme's name."""
        return lines.worn().name

    def wear(self, name: str) -> None:
        """Show everything in another theme from now on."""
        self._put_on(name)
        self.theme = f"ratchet-{name}"
        for screen in self.screen_stack:
            paint = getattr(screen, "paint", None)
            if paint is not None:
                paint()
            screen.refresh()

    # --- questions and lists over a screen ---

    def push_screen(self, screen: Any, *rest: Any, **more: Any) -> Any:
        """As Textual's; what stands over another screen is sent once, not each time that it is laid out."""
        if not getattr(screen, "is_modal", False):
            return super().push_screen(screen, *rest, **more)
        hold = self._held()
        found = super().push_screen(screen, *rest, **more)
        screen.call_after_refresh(hold.close)
        return found

    def pop_screen(self) -> Any:
        hold = self._held()
        found = super().pop_screen()
        self.call_next(hold.close)  # after the screen that goes is taken apart: that, too, sends everything
        return found

    def _held(self) -> ExitStack:
        """Nothing is sent until it is closed, or a moment has passed: should what closes it be gone meanwhile."""
        hold = ExitStack()
        hold.enter_context(self.batch_update())
        self.set_timer(HOLD_SECONDS, hold.close)
        return hold

    async def on_event(self, event: Event) -> None:
        """Keys of one breath (over a slow line, ``:pause`` arrives at once) have gone to the screen of that moment
        when the first of them opens a list: they are the list's. It lets none of its own through to here."""
        if isinstance(event, Key) and event.is_forwarded and getattr(self.screen, "TYPED_AHEAD", False):
            self.screen.post_message(event)
        else:
            await super().on_event(event)

    # --- the mouse ---

    def set_mouse(self, on: bool) -> bool:
        """Ask the terminal to report the mouse, or no longer; False where there is no terminal to ask."""
        driver: Any = self._driver
        if not hasattr(driver, "_enable_mouse_support"):
            return False
        if on:
            driver._mouse = True
            driver._enable_mouse_support()
            if driver._in_band_window_resize:  # Textual then reads places in pixels: ask for those again
                driver._enable_mouse_pixels()
        else:
            driver._disable_mouse_support()
            driver._mouse = False
        self.mouse_on = on
        return True

    # --- pictures ---

    def keep_picture(self, folder: Path, clock: Clock) -> Path:
        """Write what is on the screen as an SVG into ``folder``; returns its path. Raises OSError."""
        picture = self.export_screenshot(title="ratchet", simplify=True)
        folder.mkdir(exist_ok=True)
        name = datetime.fromtimestamp(clock.now(), UTC).astimezone().strftime("%Y-%m-%d-%H%M%S")
        path = folder / f"{name}.svg"
        at = 1
        while path.exists():
            at += 1
            path = folder / f"{name}-{at}.svg"
        path.write_text(picture, encoding="utf-8")
        return path


def _bound(keys: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Textual's keymap: each screen binds its actions under ids of its own."""
    found = {}
    for action, chosen in keys.items():
        found[action] = ",".join(chosen)
        for screen in screen_keys.SCREENS:
            if any(key.id == action for key in screen.all):
                found[f"{screen.name}.{action}"] = ",".join(chosen)
    return found


def _textual(theme: themes.Theme) -> Theme:
    """For what Textual's own widgets (questions, help) look like."""
    name, css = f"ratchet-{theme.name}", dict(theme.css)
    if theme.native:
        base = BUILTIN_THEMES["ansi-dark"]  # has the variables that a native theme needs
        return replace(base, name=name, variables={**base.variables, **css, "input-cursor-text-style": "reverse"})
    return Theme(
        name=name,
        primary=css["bright"],
        foreground=css["ink"],
        background=css["paper"],
        surface=css["sheet"],
        panel=css["sheet"],
        dark=theme.dark,
        variables=css,
    )
