"""Runs sent over the network (DICOM C-STORE) into a folder: whole or not at all, and nothing but runs.

Each object is answered by the standard's status (PS3.4, B.2.3), so that who sent it knows what became of it.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from DeepIterRegLib.common.atomic_output import disk_faults
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.quiet import debugging, quoting_nothing
from DeepIterRegLib.common.renaming import flush, flush_names, move_where_free
from DeepIterRegLib.common.scratch import scratch_beside
from DeepIterRegLib.images.dicom.arrivals import Reason, Refusal, look_at, run_id_of
from DeepIterRegLib.images.dicom.kinds import may_hold_run
from DeepIterRegLib.images.dicom.layout import readable_syntaxes

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity
    from pynetdicom.events import Event
    from pynetdicom.transport import ThreadedAssociationServer

AE_TITLE = "DEEPITERREG"
LOOPBACK = "127.0.0.1"
_PREFIX, _SUFFIX = "run-", ".dcm"  # of a run's file, around its identifier
_MOST_TITLE = 16  # characters (PS3.8, table 9-11)
_MOST_PORT = 65535
_MOST_PDU = 1 << 20  # bytes; we ask for 16 KiB, and what opens an association, with all its contexts, takes about 100
_SILENT_S = 30.0  # a connection on which nothing comes for so long is ended
_END_S = 10.0  # for connections to end when the receiver does
_WITHOUT_WORDS = logging.CRITICAL + 1
_IN_USE = "Another program listens there: give another port, or end it."
_NO_RIGHT = "Ports below 1024 are the system's: give another."


class Outcome(Enum):
    """What became of an object; its value are the words of a page or a log."""

    STORED = "stored"
    THERE_ALREADY = "stored before"
    NO_ROOM = "no room for it"
    NO_RUN = "no angiography run"
    OTHER_CLASS = "of a class that holds no angiography runs"
    NOT_WHOLE = "not whole, or damaged"


_STATUS = {
    Outcome.STORED: 0x0000,
    Outcome.THERE_ALREADY: 0x0000,
    Outcome.NO_ROOM: 0xA700,  # out of resources
    Outcome.NO_RUN: 0xA900,  # the data do not match the class
    Outcome.OTHER_CLASS: 0x0122,  # the class is not supported (PS3.7, annex C)
    Outcome.NOT_WHOLE: 0xC000,  # cannot be understood
}


@dataclass(frozen=True)
class Receipt:
    """What became of one object that was sent.

    Attributes
    ----------
    outcome
    run_id
        As `look_at` has it.
    """

    outcome: Outcome
    run_id: str


@dataclass(frozen=True)
class ReceiverSettings:
    """Where to listen, to whom, and for how much.

    Attributes
    ----------
    port
        0 for any that is free.
    bind
        The address of this computer to listen at; from the default no other computer can send.
    ae_title
        Ours: who calls another is rejected.
    senders
        AE titles that may send; empty for any.
    most_object_bytes
        1 GiB: 1024 x 1024 pixels of two bytes in 512 frames. So much memory is taken for each sender at a time.
    most_total_bytes
        Of what lies in the folder by this receiver.
    most_objects
        Likewise: more than any procedure has.
    most_senders
        At once.

    Raises
    ------
    InputError
        A port or a title that cannot be.
    """

    port: int = 0
    bind: str = LOOPBACK
    ae_title: str = AE_TITLE
    senders: tuple[str, ...] = ()
    most_object_bytes: int = 1 << 30
    most_total_bytes: int = 64 << 30
    most_objects: int = 1000
    most_senders: int = 4

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.port <= _MOST_PORT:
            problems.append(f"There is no port {self.port}; they go from 1 to {_MOST_PORT}.")
        if not all(map(_is_title, (self.ae_title, *self.senders))):
            problems.append(f"An AE title has 1 to {_MOST_TITLE} plain characters, none of them a backslash.")
        if problems:
            raise InputError(problems)


def _is_title(text: str) -> bool:
    return 0 < len(text.strip()) <= _MOST_TITLE and text.isascii() and text.isprintable() and "\\" not in text


@contextmanager
def receiving(
    folder: Path,
    settings: ReceiverSettings,
    salt: str,
    told: Callable[[Receipt], None] = lambda receipt: None,
) -> Iterator[int]:
    """Store runs that are sent to this computer into a folder while the block lasts; the port that is listened at.

    Parameters
    ----------
    folder
        Made if needed; nothing is written elsewhere. A run is named by its `run_id`, never by what the sender says.
    settings
    salt
        Of the session, as `look_at` takes it.
    told
        Hears of each object, in the thread of its sender.

    Raises
    ------
    InputError
        The port is taken, the address is none of this computer's, the folder cannot be written.
    ModuleNotFoundError
        pynetdicom, of the extra `follow`, is not installed.
    """
    import pynetdicom  # noqa: F401  before anything is made

    with ExitStack() as stack:
        with disk_faults(folder.absolute()):
            folder.mkdir(parents=True, exist_ok=True)
            place = folder.resolve()
            scratch = stack.enter_context(scratch_beside(place / "received"))
        stack.enter_context(_silence())
        ae = _entity(settings)
        server = _started(ae, settings, _Store(place, scratch, settings, salt, told))
        stack.callback(_end, ae, server)
        yield int(server.server_address[1])


@contextmanager
def _silence() -> Iterator[None]:
    """What the network's library would say quotes senders, their addresses, and bytes of objects."""
    logger = logging.getLogger("pynetdicom")
    before = logger.level
    with quoting_nothing():
        logger.setLevel(before if debugging() else _WITHOUT_WORDS)
        try:
            yield
        finally:
            logger.setLevel(before)


# -- the network ---------------------------------------------------------------------------------------


def _entity(settings: ReceiverSettings) -> ApplicationEntity:
    """What is accepted: to be asked whether we are here, and objects of every class, as each is to be answered."""
    from pynetdicom import AE, AllStoragePresentationContexts
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

    ae = AE(settings.ae_title)
    ae.require_called_aet = True
    ae.require_calling_aet = list(settings.senders)
    ae.maximum_associations = settings.most_senders
    ae.network_timeout = ae.acse_timeout = ae.dimse_timeout = _SILENT_S
    ae.add_supported_context(Verification)
    syntaxes = list(readable_syntaxes())
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(str(context.abstract_syntax), syntaxes)
    return ae


def _started(ae: ApplicationEntity, settings: ReceiverSettings, store: _Store) -> ThreadedAssociationServer:
    from pynetdicom import evt

    handlers: list[Any] = [
        (evt.EVT_CONN_OPEN, _bound_messages),
        (evt.EVT_PDU_RECV, store.drop_what_is_too_much),
        (evt.EVT_C_STORE, store.on_store),
    ]
    try:
        server = ae.start_server((settings.bind, settings.port), block=False, evt_handlers=handlers)
    except (OSError, ValueError) as error:
        number = error.errno or 0 if isinstance(error, OSError) else 0
        advice = {errno.EADDRINUSE: _IN_USE, errno.EACCES: _NO_RIGHT}.get(number, "Give an address of this computer.")
        raise InputError(
            f"This computer cannot listen at port {settings.port} of the address that was given. {advice}"
        ) from None
    assert server is not None
    return server


def _end(ae: ApplicationEntity, server: ThreadedAssociationServer) -> None:
    """Nobody sends any more, and no thread writes; of those that asked for nothing yet, threads end by themselves."""
    connected = server.active_associations
    senders = [one for one in connected if one.is_established]
    for one in connected:  # what is closed is not waited for
        if one.dul.socket is not None:
            one.dul.socket.close()
    ae.shutdown()
    for one in senders:
        one.join(_END_S)


def _bound_messages(event: Event) -> None:
    """A message cannot be longer than any is, as all its bytes would be kept, and cannot stop in the middle for long."""
    connection = event.assoc.dul.socket
    if connection is None or connection.socket is None:
        return
    connection.socket.settimeout(_SILENT_S)
    receive = connection.recv

    def bounded(nr_bytes: int) -> bytearray:
        if nr_bytes > _MOST_PDU:
            raise OSError(errno.EMSGSIZE, "longer than any message")  # it ends the connection
        return receive(nr_bytes)

    connection.recv = bounded  # type: ignore[method-assign]


# -- the folder ----------------------------------------------------------------------------------------


class _Store:
    """Objects into files; called by the threads of all senders."""

    def __init__(
        self, folder: Path, scratch: Path, settings: ReceiverSettings, salt: str, told: Callable[[Receipt], None]
    ) -> None:
        self._folder, self._scratch, self._settings = folder, scratch, settings
        self._salt, self._told = salt, told
        self._lock, self._numbers = threading.Lock(), count()
        stored = [path.lstat().st_size for path in folder.glob(f"{_PREFIX}*{_SUFFIX}")]
        self._objects, self._bytes = len(stored), sum(stored)
        self._too_long: WeakSet[Any] = WeakSet()  # connections

    def drop_what_is_too_much(self, event: Event) -> None:
        """Of an object that has become too long nothing is kept; it is answered when its sender has sent it all."""
        message = event.assoc.dimse.message
        content = message.data_set if message is not None else None
        if content is not None and content.tell() > self._settings.most_object_bytes:
            content.seek(0)
            content.truncate()
            self._too_long.add(event.assoc)

    def on_store(self, event: Event) -> int:
        """The status of an object that was sent."""
        request: Any = event.request
        run_id = run_id_of(str(request.AffectedSOPInstanceUID), self._salt)
        try:
            outcome = self._outcome(event, str(request.AffectedSOPClassUID), run_id)
        except OSError:  # a full disk: the sender keeps it and may try again
            outcome = Outcome.NO_ROOM
        self._told(Receipt(outcome, run_id))
        return _STATUS[outcome]

    def _outcome(self, event: Event, class_uid: str, run_id: str) -> Outcome:
        """What becomes of an object; raises OSError where the disk does not take it."""
        target = self._folder / f"{_PREFIX}{run_id}{_SUFFIX}"
        if event.assoc in self._too_long:
            self._too_long.discard(event.assoc)
            return Outcome.NO_ROOM
        if not may_hold_run(class_uid):
            return Outcome.OTHER_CLASS
        if target.exists():
            return Outcome.THERE_ALREADY
        content = event.encoded_dataset()
        if len(content) > self._settings.most_object_bytes or not self._reserve(len(content)):
            return Outcome.NO_ROOM
        outcome = Outcome.NO_ROOM
        try:
            outcome = self._written(content, target, run_id)
        finally:
            if outcome is not Outcome.STORED:
                self._reserve(-len(content), -1)
        return outcome

    def _reserve(self, size: int, objects: int = 1) -> bool:
        """Whether there is room for so much more, which then is taken."""
        with self._lock:
            total, number = self._bytes + size, self._objects + objects
            if objects > 0 and (total > self._settings.most_total_bytes or number > self._settings.most_objects):
                return False
            self._bytes, self._objects = total, number
            return True

    def _written(self, content: bytes, target: Path, run_id: str) -> Outcome:
        """Written beside, looked at, flushed, and named where it is a run that is whole."""
        beside = self._scratch / str(next(self._numbers))
        try:
            beside.write_bytes(content)
            found = look_at(beside, self._salt)
            if isinstance(found, Refusal):
                return Outcome.NO_RUN if found.reason is Reason.NOT_RUN else Outcome.NOT_WHOLE
            if found.run_id != run_id:  # not the object that its sender speaks of
                return Outcome.NO_RUN
            flush(beside)
            move_where_free(beside, target)
            flush_names(self._folder)
        except FileExistsError:  # another sender was quicker
            return Outcome.THERE_ALREADY
        finally:
            beside.unlink(missing_ok=True)
        return Outcome.STORED
