"""The live view: who may read it, that nobody can hold the training up, and what it says."""

import json
import socket
import threading
from contextlib import ExitStack, closing, suppress
from urllib.parse import urlsplit

import pytest
import torch
from live_cases import N, T, ask, every_step, make, train

import spikescope
from spikescope import functional
from spikescope.files import OutputError
from spikescope.view.document import read_data
from spikescope.view.document.parts import IN_HUNDRED
from spikescope.view.live import feed as feeding
from spikescope.view.live import show as showing
from spikescope.view.live.access import Doors
from spikescope.view.live.hub import WAITING, Hub

__all__ = ["every_step"]


@pytest.fixture
def around():
    """Closes what a test opens."""
    with ExitStack() as stack:
        yield stack


class Stream:
    """A client of the events."""

    def __init__(self, view):
        self.socket = socket.create_connection(("127.0.0.1", view.port), timeout=20)
        query = urlsplit(view.url).query
        self.socket.sendall(f"GET /events?{query} HTTP/1.1\r\nHost: localhost:{view.port}\r\n\r\n".encode())
        self.file = self.socket.makefile("rb")
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            self.head += self.file.readline()

    def next(self, wanted=None):
        """The next event, or the next of a name."""
        name, data = None, None
        for line in self.file:
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                data = json.loads(line[6:])
            elif line == b"\n" and data is not None:
                if wanted in (None, name):
                    return name, data
                name, data = None, None
        return None, None

    def close(self):
        self.file.close()
        self.socket.close()


# who may read

RIGHT = Doors()
ALLOWED = [
    ("/", {"Host": "127.0.0.1:1"}),
    ("/events", {"Host": "localhost:8000"}),  # as a forwarded port has it
    ("/", {"Host": "[::1]:8000", "Origin": "http://localhost:9"}),
    ("/past", {"Host": "LOCALHOST", "Origin": "http://127.0.0.1:9"}),
]
REFUSED = [
    ("GET", "/?token={}", {}, 403),
    ("GET", "/?token={}", {"Host": "evil.example"}, 403),
    ("GET", "/?token={}", {"Host": "localhost.evil.example"}, 403),
    ("GET", "/?token={}", {"Host": "127.0.0.1.evil.example"}, 403),
    ("GET", "/?token={}", {"Host": "127.0.0.1, evil.example"}, 403),
    ("GET", "/?token={}", {"Host": "127.0.0.1:1@evil.example"}, 403),
    ("GET", "/?token={}", {"Host": "192.168.0.7:8000"}, 403),
    ("GET", "/?token={}", {"Host": "localhost", "Origin": "https://evil.example"}, 403),
    ("GET", "/?token={}", {"Host": "localhost", "Origin": "null"}, 403),
    ("GET", "/?token={}", {"Host": "localhost", "Origin": "file://localhost"}, 403),
    ("GET", "/", {"Host": "localhost"}, 403),
    ("GET", "/?token=", {"Host": "localhost"}, 403),
    ("GET", "/?token=" + "0" * 32, {"Host": "localhost"}, 403),
    ("GET", "/?token={}0", {"Host": "localhost"}, 403),
    ("GET", "/?token={}&token={}", {"Host": "localhost"}, 403),
    ("GET", "/?token=%ff%00é", {"Host": "localhost"}, 403),
    ("GET", "/?token={}&" + "x=1&" * 9, {"Host": "localhost"}, 403),
    ("GET", "/?token={}&x=" + "x" * 2048, {"Host": "localhost"}, 414),
    *[
        (verb, "/?token={}", {"Host": "localhost"}, 405)
        for verb in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
    ],
]


@pytest.mark.parametrize(("place", "heads"), ALLOWED)
def test_who_has_the_token_and_asks_this_machine_is_let_in(place, heads):
    assert RIGHT.refusal("GET", f"{place}?token={RIGHT.token}", heads) is None


@pytest.mark.parametrize(("method", "target", "heads", "status"), REFUSED)
def test_others_are_refused_in_words(method, target, heads, status):
    refusal = RIGHT.refusal(method, target.replace("{}", RIGHT.token), heads)
    assert refusal is not None
    assert refusal.status == status
    assert refusal.words.endswith(".")


def test_a_view_for_other_machines_is_asked_by_numbers_or_by_name():
    doors = Doors(remote=True)
    for host, there in {"192.168.0.7:8000": True, socket.gethostname(): True, "evil.example": False}.items():
        assert (doors.refusal("GET", f"/?token={doors.token}", {"Host": host}) is None) == there


def test_tokens_have_128_bits_and_differ():
    tokens = {Doors().token for _ in range(20)}
    assert len(tokens) == 20
    assert all(len(bytes.fromhex(token)) == 16 for token in tokens)


def test_the_server_refuses_over_the_wire_what_the_doors_refuse(every_step):
    with spikescope.live(make(), quiet=True) as view:
        token = urlsplit(view.url).query
        wrong = f"/?token={'0' * 32}"
        assert ask(view)[0] == 200
        assert ask(view, method="HEAD")[0] == 200
        for target, method, heads, status in [
            (wrong, "GET", {}, 403),
            ("/", "GET", {}, 403),
            (f"/?{token}", "GET", {"Host": "evil.example"}, 403),
            (f"/events?{token}", "GET", {"Host": "evil.example"}, 403),
            (f"/?{token}", "GET", {"Origin": "http://evil.example"}, 403),
            (f"/?{token}", "POST", {}, 405),
            (f"/?{token}", "DELETE", {}, 405),
            (f"/?{token}", "BREW", {}, 405),
            (f"/etc/passwd?{token}", "GET", {}, 404),
            (f"/past?{token}&number=99", "GET", {}, 404),
            (f"/past?{token}&number=-1", "GET", {}, 404),
            (f"/past?{token}&number=" + "9" * 40, "GET", {}, 404),
        ]:
            found, given, body = ask(view, target, method, heads, b"x" * 10 if method == "POST" else None)
            assert found == status, (target, method, heads, body)
            assert body
            assert not any(name.lower().startswith("access-control") for name in given)
        assert ask(view, method="POST")[1]["Allow"] == "GET, HEAD"
        heads = ask(view)[1]
        assert heads["Cache-Control"] == "no-store"
        assert heads["Referrer-Policy"] == "no-referrer"
        assert "Python" not in heads["Server"]


def test_the_server_is_on_this_machine_alone_unless_that_is_asked_for():
    with pytest.raises(ValueError, match=r"can be reached from other machines.*ssh -L.*allow_remote=True"):
        spikescope.live(make(), host="0.0.0.0")
    for given, words in {"port": (1 << 16, "port is a number below"), "host": ("localhost", "in numbers")}.items():
        with pytest.raises(ValueError, match=words[1]):
            spikescope.live(make(), **{given: words[0]})
    with pytest.warns(RuntimeWarning, match="can be read from other machines"):
        view = spikescope.live(make(), host="0.0.0.0", allow_remote=True, quiet=True)
    view.close()
    with spikescope.live(make(), quiet=True) as view:
        with pytest.raises(OutputError, match=f"cannot listen on 127.0.0.1, port {view.port}: .*Choose another"):
            spikescope.live(make(), port=view.port)
        assert view._server.server_address[0] == "127.0.0.1"


# what it says


@pytest.mark.parametrize("step_mode", ["m", "s"])
def test_the_page_shows_what_the_network_does(step_mode, every_step, tmp_path):
    net = make(step_mode)
    with spikescope.live(net, quiet=True, report=tmp_path / "end.html", title="A <b>net</b>") as view:
        losses = train(net, 5, view)
        found = view.document()
        page = ask(view)[2].decode()
    rates = {row["name"]: row.get("rate") for row in found["layers"]}
    with spikescope.monitor.record(net := make(step_mode), "rate") as recording:
        train(net, 4)  # the last of five is not over before the view closes
    for name in ("1", "3"):
        assert rates[name] == pytest.approx(recording[name].mean().item(), rel=1e-5)
    assert {held["layer"] for held in found["rasters"]} == {held["layer"] for held in found["potentials"]} == {"1", "3"}
    assert found["flow"]["layers"] == ["1", "3"]
    assert next(held for held in found["courses"] if held["title"] == "Loss")["series"][0]["values"] == pytest.approx(
        losses[:4], rel=1e-5
    )
    assert "A &lt;b&gt;net&lt;/b&gt;" in page
    assert "EventSource" in page
    assert "<b>net" not in page
    last = read_data(tmp_path / "end.html")[0]
    assert last["facts"][0] == ["step of training", "4"]
    assert found["facts"][1] == ["map and table", "all of 4 steps that are kept, 0 to 3"]
    course = next(held for held in found["courses"] if held["title"] == "Firing rate")
    assert course["unit"] == f"{IN_HUNDRED}, each step by itself"
    for line in course["series"]:
        assert sum(line["values"]) / 4 == pytest.approx(100 * rates[line["name"]], rel=1e-5)
    assert "EventSource" not in (tmp_path / "end.html").read_text()


def test_events_come_and_the_last_one_has_the_report(every_step, around):
    net = make()
    with spikescope.live(net, quiet=True) as view:
        stream = around.enter_context(closing(Stream(view)))
        assert b"text/event-stream" in stream.head
        assert stream.next()[0] == "pulse"
        name, pulse = None, {"step": None}
        while pulse["step"] is None:
            losses = train(net, 2, view)
            name, pulse = stream.next("pulse")
        assert pulse["loss"] is not None
        assert len(losses) == 2
        name, told = stream.next("page")
        assert name == "page"
        assert told["data"][0]["source"] == "live"
        assert told["parts"]["map"].startswith("<section")
        number = pulse["kept"][0]
        status, _, body = ask(view, f"/past?{urlsplit(view.url).query}&number={number}")
        assert status == 200
        assert json.loads(body)["number"] == number
    name, told = stream.next("end")
    assert name == "end"
    assert told["report"].startswith("<!doctype html>")
    assert stream.next() == (None, None)


def test_a_network_that_has_not_run_has_a_page_all_the_same():
    with spikescope.live(make(), quiet=True) as view:
        assert ask(view)[0] == 200
        assert view.document()["facts"][0] == ["step of training", "none yet"]


def test_an_empty_batch_and_a_layer_that_was_taken_out_leave_the_view_alone(every_step):
    net = make()
    with spikescope.live(net, quiet=True) as view:
        net(torch.rand(T, 0, 8))
        functional.reset_net(net)
        assert ask(view)[0] == 200
        assert view.document()["rasters"] == []
        net(4 * torch.rand(T, N, 8))
        del net[3]
        view.document()
        assert ask(view)[0] == 200
        assert view.error is None


@pytest.mark.parametrize(
    ("options", "words"),
    [({"title": 3}, "title is a text, but got 3"), ({"report": 3}, "the name of a file"), ({"report": ""}, "a folder")],
)
def test_a_title_and_a_place_that_are_none_are_refused_at_the_door(options, words):
    with pytest.raises((TypeError, IsADirectoryError), match=words):
        spikescope.live(make(), quiet=True, **options)


def test_a_notebook_shows_a_frame():
    with spikescope.live(make(), quiet=True) as view:
        assert view._repr_html_().startswith(f'<iframe src="{view.url}"')
        assert view.url in repr(view)


def test_the_address_is_printed(capsys):
    with spikescope.live(make()) as view:
        assert capsys.readouterr().err == f"Live view: {view.url}\n"


# nobody holds the training up


def test_the_training_gives_the_same_numbers_whoever_looks_and_however(every_step):
    plain = train(make(), 30)
    net = make()
    with ExitStack() as around:
        view = around.enter_context(spikescope.live(net, quiet=True))
        for _ in range(50):  # some that read nothing
            around.callback(Stream(view).close)
        rubbish = [
            b"\x16\x03\x01\x02\x00",
            b"GET",
            b"GET / HTTP/9.9\r\n\r\n",
            b"\0" * 70_000,
            b"A" * 10 + b"\r\n" * 200,
        ]
        for sent in rubbish:
            held = around.enter_context(socket.create_connection(("127.0.0.1", view.port), timeout=5))
            with suppress(OSError):
                held.sendall(sent)
        losses = train(net, 30, view)
        assert ask(view)[0] == 200
        assert view.error is None
    assert losses == plain


def test_a_stalled_client_costs_a_short_queue_and_no_more():
    hub = Hub()
    stalled, quick = hub.join(), hub.join()
    for number in range(20):
        hub.publish(b"%d" % number)
        assert quick.get(1) == b"%d" % number
    assert stalled.dropped == hub.dropped == 20 - WAITING
    assert [stalled.get(0) for _ in range(WAITING)] == [b"16", b"17", b"18", b"19"]
    assert stalled.get(0) is None
    hub.leave(stalled)
    assert hub.dropped == 20 - WAITING
    assert len(hub) == 1


def test_there_is_room_for_a_number_of_clients_and_others_are_told(every_step, monkeypatch):
    monkeypatch.setattr("spikescope.view.live.hub.MOST", 2)
    with ExitStack() as around:
        view = around.enter_context(spikescope.live(make(), quiet=True))
        for _ in range(2):
            around.callback(Stream(view).close)
        status, _, body = ask(view, f"/events?{urlsplit(view.url).query}")
        assert status == 503
        assert b"Too many" in body


@pytest.mark.parametrize("gone", ["server", "thread"])
def test_a_view_that_is_broken_leaves_the_training_alone(gone, every_step, monkeypatch):
    plain, net = train(make(), 20), make()
    with spikescope.live(net, quiet=True) as view:
        if gone == "server":
            view._server.shutdown()
            view._server.server_close()
            losses = train(net, 20, view)
        else:
            monkeypatch.setattr(view._feed, "look", lambda: 1 / 0)
            with pytest.warns(RuntimeWarning, match="live view has ended: ZeroDivisionError"):
                view._show._thread.join(10)
            losses = train(net, 20, view)
            monkeypatch.undo()
    assert losses == plain
    assert (view.error is None) == (gone == "server")


def test_after_the_end_nothing_listens_and_nothing_runs(every_step):
    net = make()
    before = threading.active_count()
    view = spikescope.live(net, quiet=True)
    train(net, 2, view)
    view.close()
    view.close()
    with pytest.raises(OSError):  # noqa: PT011  # which one, the system chooses
        ask(view)
    assert threading.active_count() <= before
    kept = view._feed.steps.count
    train(net, 2)
    assert view._feed.steps.count == kept


def test_an_error_of_the_training_comes_through(every_step):
    with pytest.raises(KeyError, match="mine"), spikescope.live(make(), quiet=True):
        raise KeyError("mine")


def test_steps_are_kept_so_rarely_that_it_takes_three_thousandths_of_the_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(feeding.time, "monotonic", lambda: now[0])
    net = make()
    feed = feeding.Feed(net, 1000)
    feed.watched = True
    feed.steps.__class__ = type(
        "Steps", (feeding.Steps,), {"milliseconds": property(lambda self: 5.0 * len(self.ring.frames) + 5)}
    )
    for _ in range(400):
        now[0] += 0.05
        net(torch.ones(T, N, 8))
        functional.reset_net(net)
    feed.steps.close()
    kept = len(feed.ring.frames)
    assert 10 <= kept <= 13  # 3 ms of each second


def test_a_page_is_sent_as_often_as_bytes_and_time_allow(every_step, monkeypatch):
    net, hub = make(), Hub()
    feed = feeding.Feed(net, 64)
    show = showing.Show(feed, hub)
    show._ended.set()  # its thread stops: the beats are given here
    show._thread.join()
    hub.join()
    monkeypatch.setattr(showing, "BYTES", 200_000)
    for tenth in range(60):
        train(net, 1)
        show._beat(tenth / 10)
    feed.steps.close()
    assert 200_000 < hub.sent < 6 * 200_000 * 1.1


def test_the_thread_of_the_view_rests_as_long_as_its_work_asks_for(every_step, monkeypatch):
    monkeypatch.setattr(showing, "SHARE", 0.0025)
    worked = [0.0]
    monkeypatch.setattr(showing.time, "thread_time", lambda: worked[0])
    net, hub = make(), Hub()
    feed = feeding.Feed(net, 64)
    show = showing.Show(feed, hub)
    show._ended.set()  # its thread stops: the beats are given here
    show._thread.join()

    def look():
        worked[0] += 0.002

    monkeypatch.setattr(feed, "look", look)
    assert show._beat(0.0) == pytest.approx(0.8)  # nobody is there
    hub.join()
    assert show._beat(1.0) == pytest.approx(0.8)
    monkeypatch.setattr(feed, "look", lambda: None)
    assert show._beat(2.0) == showing.BEAT
    feed.steps.close()


def test_a_page_that_a_client_asks_for_is_made_up_for_before_the_next(every_step, monkeypatch):
    monkeypatch.setattr(showing, "SHARE", 0.0025)
    worked, now = [0.0], [100.0]
    monkeypatch.setattr(showing.time, "thread_time", lambda: worked[0])
    monkeypatch.setattr(showing.time, "monotonic", lambda: now[0])
    net, hub = make(), Hub()
    feed = feeding.Feed(net, 64)
    show = showing.Show(feed, hub)
    show._ended.set()  # its thread stops: the beats are given here
    show._thread.join()
    drawn = []

    def document():
        worked[0] += 0.005
        drawn.append(now[0])
        return feed.document()

    monkeypatch.setattr(show, "_document", document)
    show.page()
    hub.join()
    train(net, 1)
    feed.steps.finish()
    show._beat(100.1)  # the page was empty: what comes first is shown at once
    assert len(drawn) == 2
    now[0] = 110.0
    show.page()
    train(net, 1)
    feed.steps.finish()
    show._beat(111.9)
    assert len(drawn) == 3
    show._beat(112.1)
    assert len(drawn) == 4
    feed.steps.close()
