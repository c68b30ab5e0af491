"""What a run depends on, and all of it: a world, and the frames that are sent into it. Kept in a file it can be
replayed."""

import json

from world import World


class Step:
    """Frames that go in together: a burst at a port, or from the host by its TAP. `notes` say what each is. `pause`:
    seconds until the next step, where the control thread is to take note first. With `world`, other rules instead: what
    the gateway is loaded with from then on."""

    def __init__(self, port="", frames=(), notes=(), host=False, pause=0, world=None):
        self.port, self.frames, self.notes, self.host = port, list(frames), list(notes), host
        self.pause, self.world = pause, world

    def to_json(self):
        if self.world:
            return {"world": self.world.to_json()}
        return {"port": self.port, "host": self.host, "pause": self.pause, "notes": self.notes,
                "frames": [frame.hex() for frame in self.frames]}

    @classmethod
    def from_json(cls, value):
        if "world" in value:
            return cls(world=World.from_json(value["world"]))
        frames = [bytes.fromhex(frame) for frame in value["frames"]]
        return cls(value["port"], frames, value["notes"], value["host"], value["pause"])


class Case:
    """`origin` says where it came from."""

    def __init__(self, world, steps, origin=""):
        self.world, self.steps, self.origin = world, steps, origin

    @property
    def frames(self):
        return sum(len(step.frames) for step in self.steps)

    def write(self, path):
        value = {"origin": self.origin, "world": self.world.to_json(), "steps": [step.to_json() for step in self.steps]}
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="ascii")

    @classmethod
    def read(cls, path):
        value = json.loads(path.read_text(encoding="ascii"))
        return cls(World.from_json(value["world"]), [Step.from_json(step) for step in value["steps"]], value["origin"])
