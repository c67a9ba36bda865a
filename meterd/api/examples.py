"""What answers and bodies look like, for those who read the description: tests check each."""

from typing import Any

from pydantic import BaseModel

from meterd.api import alerts, commands, latest, silences
from meterd.api import range as history

_TIME = "2026-11-21T10:00:00.000Z"

EXAMPLES: dict[type[BaseModel], Any] = {
    latest.LatestSamples: {
        "time": "2026-11-21T10:00:01.000Z",
        "samples": [
            {
                "device": "main",
                "quantity": "active_power",
                "value": 3412.5,
                "unit": "W",
                "time": _TIME,
                "age_s": 1.0,
                "quality": "good",
                "reason": "",
            }
        ],
    },
    history.RangeAnswer: {
        "series": [
            {
                "device": "main",
                "quantity": "active_power",
                "unit": "W",
                "agg": "avg",
                "points": [[1795255140000, 3407.2], [1795255200000, 3412.5]],
            }
        ],
        "step_ms": 60000,
        "raised": None,
    },
    alerts.AckBody: {"comment": "The electrician is on the way"},
    silences.SilenceBody: {"device": "main", "end": "now+2h", "comment": "The fuse is changed"},
    commands.CommandBody: {"command": "test.battery.start.quick"},
}

TEXTS = {
    "text/event-stream": (
        'id: 1a1ff1e3013-7\nevent: changes\ndata: {"time":"2026-11-21T10:00:01.000Z","devices":'
        '[{"device":"main","time":"2026-11-21T10:00:00.900Z","up":true,'
        '"since":"2026-11-20T06:12:44.000Z","error":null,"samples":{"active_power":'
        '{"value":3412.5,"unit":"W","quality":"good"}},"same":["voltage.l1","device.up"]}]}\n\n'
    )
}
"""Of answers that are no JSON, by media type."""
