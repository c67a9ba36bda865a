"""For the tests of plug-ins: what meterd's own drivers are tested with. Public as meterd.plugin.

`ScriptedLink` answers a driver from a script, `scripted_server` a link over real TCP,
`http_server` is a device that speaks HTTP, and `simulated_meter` a meter with the registers of a
map. `running_site` polls, stores and tells
events as the daemon does; where pytest runs, it is there as the fixture `meterd_site`.

Nothing of meterd imports this package, and only pytest_plugin.py imports pytest.
"""

from meterd.testing.fake_clock import FakeClock
from meterd.testing.http_server import http_server
from meterd.testing.running_site import RunningSite, running_site
from meterd.testing.scripted_link import Reply, Script, ScriptedLink, parse_transcript
from meterd.testing.scripted_server import scripted_server
from meterd.testing.simulated_meter import simulated_meter

__all__ = [
    "FakeClock",
    "Reply",
    "RunningSite",
    "Script",
    "ScriptedLink",
    "http_server",
    "parse_transcript",
    "running_site",
    "scripted_server",
    "simulated_meter",
]
