"""What the workers of a run need not do: tell what says nothing."""

from functools import partial


def send_less(config):
    """Of a test that passes, a worker sends one report of three: nobody asks for those of its setup and its end.

    To read them is most of what the process that prints has to do.
    """
    if config.getoption("durations") or config.getoption("xmlpath", None):
        return
    for plugin in config.pluginmanager.get_plugins():
        if type(plugin).__name__ == "WorkerInteractor":
            plugin.sendevent = partial(_send, plugin.sendevent)


def _send(send, name, **held):
    report = held.get("data", {})
    if name != "testreport" or report["when"] == "call" or report["outcome"] != "passed":
        send(name, **held)
