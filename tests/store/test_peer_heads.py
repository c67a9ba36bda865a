"""What readers see of several memories."""

from meterd.store.cluster.peer_heads import ClusterHead, PeerHeads
from meterd.store.head.head import Head
from meterd.store.head.view import ReadableHead


def test_everything_that_readers_ask_is_answered_of_all_heads() -> None:
    asked = {name for name in vars(ReadableHead) if not name.startswith("_")}
    assert asked <= set(vars(ClusterHead))
    assert asked <= set(vars(Head))


def test_without_others_it_is_our_own() -> None:
    seen = ClusterHead(Head(), PeerHeads())
    assert seen.devices() == []
    assert seen.names() == set()
    assert seen.extents() == {}
    assert seen.oldest("x") is None
    assert seen.batches("x") == []
