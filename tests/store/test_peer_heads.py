"""What readers see of several memories."""

from meterd.store.cluster.peer_heads import ClusterHead, PeerHeads
from meterd.store.head.head import Head

# What only a writer asks, of its own memory.
WRITING = {
    "adopt",
    "uncommitted",
    "confirm",
    "forget",
    "moves",
    "park",
    "unpark",
    "unconfirm",
    "renumber",
    "append",
    "follow",
    "drop",
    "sealed",
    "tails",
}


def test_everything_that_readers_ask_is_answered_of_all_memories() -> None:
    asked = {name for name in vars(Head) if not name.startswith("_")} - WRITING
    assert asked <= set(vars(ClusterHead))


def test_without_others_it_is_our_own() -> None:
    seen = ClusterHead(Head(), PeerHeads())
    assert seen.devices() == []
    assert seen.names() == set()
    assert seen.extents() == {}
    assert seen.oldest("x") is None
    assert seen.batches("x") == []
