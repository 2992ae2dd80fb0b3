"""Unicorn's C API through ctypes. Of the Unicorn engines, only this file, block_counter.py and
quick_fill.py may use it.

The binding that ships with Unicorn spends 5 us of Python on each entry; called directly, one
instruction costs about 2 us (count=1), and the whole register file is read with one copy.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache

from cores.engines import machine_code
from cores.engines.unicorn.block_counter import BlockCounter
from cores.engines.unicorn.quick_fill import CODE, QuickFill
from cores.errors import EngineError, UnavailableError

ARCH_X86, MODE_64 = 4, 8
RFLAGS, RAX, RCX, RDI = 25, 35, 38, 39
"""UC_X86_REG_EFLAGS and so on."""
CPU_NEHALEM = 15
"""The model nearest to the platform's CPU: SSE4.2 and POPCNT; no AVX, XSAVE, RDRAND, FSGSBASE."""

ARCH_M68K, MODE_BIG_ENDIAN = 7, 1 << 30
CPU_M68000 = 1

OK, INSN_INVALID, FETCH_PROT = 0, 10, 14

_HOOK_INTR, _HOOK_CODE, _HOOK_BLOCK, _HOOK_EDGE_GENERATED = 1 << 0, 1 << 2, 1 << 3, 1 << 15
_HOOK_READ, _HOOK_WRITE = 1 << 10, 1 << 11
_HOOK_WRITE_PROT = 1 << 8
_WRITE_ACCESS = 17

_CTL_USE_EXITS, _CTL_EXITS, _CTL_CPU_MODEL = 4, 6, 7
_CTL_REMOVE_TB, _CTL_FLUSH_TB, _CTL_FLUSH_TLB, _CTL_BUFFER = 9, 10, 11, 13
_CTL_WRITE = 1 << 30

_CODE_BUFFER = 32 << 20
"""Bytes for translated code. By default each engine reserves 1 GiB of address space."""

PROT_ALL = 7

InterruptCallback = Callable[[int], None]
BlockCallback = Callable[[int, int], None]
AccessCallback = Callable[[bool, int, int], None]
ReadCallback = Callable[[int, int], int]
WriteCallback = Callable[[int, int, int], None]

_INTR = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
_EDGE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_BLOCK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)
_ACCESS = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
)
_REFUSED = ctypes.CFUNCTYPE(
    ctypes.c_bool, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_int, ctypes.c_int64,
    ctypes.c_void_p,
)  # fmt: skip
_READ = ctypes.CFUNCTYPE(
    ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_void_p
)
_WRITE = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint64, ctypes.c_void_p
)


class _TranslationBlock(ctypes.Structure):
    """uc_tb: the argument of an edge hook that describes a block."""

    _fields_ = (("pc", ctypes.c_uint64), ("icount", ctypes.c_uint16), ("size", ctypes.c_uint16))


@lru_cache(maxsize=1)
def _libraries() -> tuple[ctypes.CDLL, ctypes.PyDLL]:
    """The shared library, loaded twice: calls through the second handle keep the interpreter lock,
    which is cheaper for calls that return at once."""
    try:
        from unicorn.unicorn_py3.unicorn import uclib
    except ImportError as error:
        raise UnavailableError("Unicorn is not installed: pip install unicorn") from error
    path = uclib._name
    return ctypes.CDLL(path), ctypes.PyDLL(path)


@lru_cache(maxsize=1)
def version() -> str:
    """Unicorn's version, "2.1.4". Raises UnavailableError when it is not installed."""
    _, quick = _libraries()
    packed = int(quick.uc_version(None, None))
    return f"{packed >> 24}.{packed >> 16 & 0xFF}.{packed >> 8 & 0xFF}"


def probe() -> str | None:
    """The reason why Unicorn cannot be used on this host; None when it can."""
    try:
        version()
    except (UnavailableError, OSError) as error:
        return str(error)
    return None


class Unicorn:
    """One Unicorn engine, by default an x86-64 CPU, with its register file in a buffer for Python.

    registers: the whole CPU state as ``save`` copied it; ``restore`` copies it back.
    """

    def __init__(self, arch: int = ARCH_X86, mode: int = MODE_64, model: int = CPU_NEHALEM) -> None:
        self._lib, self._quick = _libraries()
        self._keep: list[object] = []  # ctypes frees a callback without references
        self._hooks: dict[int, object] = {}
        self._raised: BaseException | None = None
        self._uc = ctypes.c_void_p()
        self._context = ctypes.c_void_p()
        self._check(self._lib.uc_open(arch, mode, ctypes.byref(self._uc)))
        try:
            self._ctl(_CTL_BUFFER, 1, ctypes.c_uint32(_CODE_BUFFER))
            self._ctl(_CTL_CPU_MODEL, 1, ctypes.c_int(model))
            self._ctl(_CTL_USE_EXITS, 1, ctypes.c_int(1))  # no address ends a run by itself
            self._check(self._lib.uc_context_alloc(self._uc, ctypes.byref(self._context)))
        except EngineError:
            self.close()
            raise
        self._lib.uc_context_size.restype = ctypes.c_size_t
        size = self._lib.uc_context_size(self._uc)
        buffer = (ctypes.c_char * size).from_address(self._context.value or 0)
        self.registers = memoryview(buffer).cast("B")
        self._start = self._lib.uc_emu_start
        self._start.argtypes = (
            ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t
        )  # fmt: skip
        self._save, self._restore = self._quick.uc_context_save, self._quick.uc_context_restore
        self._stop = self._quick.uc_emu_stop

    @property
    def address(self) -> int:
        """The host address of Unicorn's own structure, which contains the guest's registers."""
        return self._uc.value or 0

    def start(self, rip: int, count: int = 0) -> int:
        """Execute from ``rip``: ``count`` instructions, 0 for no limit. Returns an error code.

        Raises an exception that a callback has raised, KeyboardInterrupt included: C cannot pass it
        on."""
        code = int(self._start(self._uc, rip, 0, 0, count))
        if self._raised is not None:
            error, self._raised = self._raised, None
            raise error
        return code

    def end_at(self, address: int) -> None:
        """End blocks translated from now on before ``address``, and runs that reach it."""
        self._ctl(_CTL_EXITS, 2, (ctypes.c_uint64 * 1)(address), ctypes.c_size_t(1))

    def stop(self) -> None:
        """End the running ``start`` soon; no effect when none runs. May be called from any thread."""
        if self._uc:
            self._stop(self._uc)

    def save(self) -> None:
        self._save(self._uc, self._context)

    def restore(self) -> None:
        self._restore(self._uc, self._context)

    def write_register(self, number: int, value: bytes) -> None:
        """Set a register by Unicorn's own number (UC_X86_REG_*), with the state derived from it."""
        self._check(self._quick.uc_reg_write(self._uc, number, ctypes.c_char_p(value)))

    def reader(self, *numbers: int) -> Callable[[], Sequence[int]]:
        """A function that reads general registers, or RFLAGS, in the middle of a run, in one call.
        numbers: Unicorn's own."""
        count, read = len(numbers), self._quick.uc_reg_read_batch
        values, wanted = (ctypes.c_uint64 * count)(), (ctypes.c_int * count)(*numbers)
        first = ctypes.addressof(values)
        places = (ctypes.c_void_p * count)(*range(first, first + 8 * count, 8))

        def reading() -> Sequence[int]:
            read(self._uc, wanted, places, count)
            return values[:]

        return reading

    def writer(self, one: int, other: int) -> Callable[[int, int], None]:
        """A function that sets these two general registers, in the middle of a run, in one call."""
        write, wanted = self._quick.uc_reg_write_batch, (ctypes.c_int * 2)(one, other)
        values = (ctypes.c_uint64 * 2)()
        first = ctypes.addressof(values)
        places = (ctypes.c_void_p * 2)(first, first + 8)

        def writing(value: int, another: int) -> None:
            values[0] = value
            values[1] = another
            write(self._uc, wanted, places, 2)

        return writing

    def read_address(self, number: int) -> int:
        """The value of a 64-bit register by Unicorn's own number."""
        value = ctypes.c_uint64()
        self._check(self._quick.uc_reg_read(self._uc, number, ctypes.byref(value)))
        return value.value

    def map_ram(self, address: int, size: int, host: int) -> None:
        """Map ``size`` bytes of host memory at ``host`` as RAM at the physical ``address``."""
        self._check(
            self._lib.uc_mem_map_ptr(
                self._uc,
                ctypes.c_uint64(address),
                ctypes.c_size_t(size),
                PROT_ALL,
                ctypes.c_void_p(host),
            )
        )

    def unmap(self, address: int, size: int) -> None:
        """Unmap what ``map_ram`` or ``map_device`` has mapped."""
        self._check(self._lib.uc_mem_unmap(self._uc, ctypes.c_uint64(address), ctypes.c_size_t(size)))

    def map_device(self, address: int, size: int, read: ReadCallback, write: WriteCallback) -> None:
        """Call ``read(gpa, size)`` or ``write(gpa, size, value)`` for every access."""
        on_read = _READ(lambda _uc, offset, width, _: read(address + offset, width))
        on_write = _WRITE(lambda _uc, offset, width, value, _: write(address + offset, width, value))
        self._keep += (on_read, on_write)
        self._check(
            self._lib.uc_mmio_map(
                self._uc, ctypes.c_uint64(address), ctypes.c_size_t(size), on_read, None, on_write, None
            )
        )

    def on_interrupt(self, callback: InterruptCallback) -> None:
        """Call ``callback(vector)`` for exceptions and software interrupts."""

        def interrupted(_uc: int, vector: int, _data: int) -> None:
            try:
                callback(vector)
            except BaseException as error:
                self._caught(error)

        self._hook(_HOOK_INTR, _INTR(interrupted))

    def block_counter(self, slow: BlockCallback, help: Callable[[], bool]) -> BlockCounter:
        """A counter for ``count_blocks``. It calls ``slow(address, bytes)`` for blocks that it must not
        count by itself, and ``help`` for a REP (block_counter.py)."""

        def entered(address: int, size: int) -> None:
            try:
                slow(address, size)
            except BaseException as error:
                self._caught(error)

        def helped() -> bool:
            try:
                return help()
            except BaseException as error:
                self._caught(error)
                return True

        return BlockCounter(entered, helped)

    def quick_fill(self, counter: BlockCounter, ram: int) -> QuickFill | None:
        """Have ``counter`` helped by machine code (quick_fill.py). ram: the HVA of the guest's RAM.
        None where the host executes none of ours."""
        page = machine_code.executable(CODE)
        if page is None:
            return None
        read, write = (
            ctypes.cast(function, ctypes.c_void_p).value or 0
            for function in (self._quick.uc_reg_read_batch, self._quick.uc_reg_write_batch)
        )
        numbers = RCX, RDI, RAX, RFLAGS
        quick = QuickFill(page, (read, write, counter.python_helper), numbers, ram)
        counter.helper = quick.address
        return quick

    def count_blocks(self, counter: BlockCounter) -> int:
        """Call ``counter`` before each translated block runs. Returns the hook's handle."""
        return self._hook(_HOOK_BLOCK, ctypes.c_void_p(counter.callback), data=counter.data)

    def before(self, callback: Callable[[int], None]) -> Callable[[int], None]:
        """A function that has ``callback(address)`` called from now on before each execution of the
        instruction at an address, where the run may still be stopped. It discards what is translated
        there, which must be mapped."""

        def reached(_uc: int, address: int, _size: int, _data: int) -> None:
            try:
                callback(address)
            except BaseException as error:
                self._caught(error)

        hook = _BLOCK(reached)
        hooked: set[int] = set()

        def watch(address: int) -> None:
            if address not in hooked:
                hooked.add(address)
                self._hook(_HOOK_CODE, hook, address, address)
            self._ctl(_CTL_REMOVE_TB, 2, ctypes.c_uint64(address), ctypes.c_uint64(address + 1))

        return watch

    def on_translation(self, callback: BlockCallback) -> int:
        """Call ``callback(address, bytes)`` whenever a block has been translated."""

        def translated(_uc: int, block: int, _previous: int, _data: int) -> None:
            tb = _TranslationBlock.from_address(block)
            try:
                callback(tb.pc, tb.size)
            except BaseException as error:
                self._caught(error)

        return self._hook(_HOOK_EDGE_GENERATED, _EDGE(translated))

    def check_all_stores(self) -> None:
        """Have Unicorn look for translated code at every store, whatever was stored before: an access
        hook that covers a frame has this effect. This one is for stores to what is mapped read-only,
        of which there is nothing: it is never called."""

        def refused(_uc: int, _kind: int, _at: int, _size: int, _value: int, _data: int) -> bool:
            return False

        self._hook(_HOOK_WRITE_PROT, _REFUSED(refused))

    def on_access(self, callback: AccessCallback) -> int:
        """Call ``callback(is_write, address, bytes)`` before each data access."""
        return self._hook(
            _HOOK_READ | _HOOK_WRITE,
            _ACCESS(
                lambda _uc, kind, at, size, _value, _data: callback(kind == _WRITE_ACCESS, at, size)
            ),
        )

    def _caught(self, error: BaseException) -> None:
        """Keep a callback's exception, which ``start`` raises, and end the run."""
        if self._raised is None:
            self._raised = error
        self.stop()

    def unhook(self, handle: int) -> None:
        self._check(self._lib.uc_hook_del(self._uc, ctypes.c_void_p(handle)))
        del self._hooks[handle]

    def flush_code(self) -> None:
        self._ctl(_CTL_FLUSH_TB, 0)

    def flush_tlb(self) -> None:
        self._ctl(_CTL_FLUSH_TLB, 0)

    def close(self) -> None:
        if self._context:
            self.registers.release()
            self._lib.uc_context_free(self._context)
            self._context = ctypes.c_void_p()
        if self._uc:
            self._lib.uc_close(self._uc)
            self._uc = ctypes.c_void_p()
        self._keep.clear()
        self._hooks.clear()

    def _hook(
        self, kind: int, callback: object, begin: int = 1, end: int = 0, data: int | None = None
    ) -> int:
        handle = ctypes.c_size_t()
        add = self._lib.uc_hook_add
        add.argtypes = (
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
            ctypes.c_uint64, ctypes.c_uint64,
        )  # fmt: skip
        self._check(add(self._uc, ctypes.byref(handle), kind, callback, data, begin, end))
        self._hooks[handle.value] = callback
        return handle.value

    def _ctl(self, kind: int, arguments: int, *values: object) -> None:
        self._check(
            self._lib.uc_ctl(self._uc, ctypes.c_int(kind | arguments << 26 | _CTL_WRITE), *values)
        )

    def words(self, code: int) -> str:
        """The text of an error code (uc_strerror)."""
        strerror = self._lib.uc_strerror
        strerror.restype = ctypes.c_char_p
        return bytes(strerror(code)).decode()

    def _check(self, code: int) -> None:
        if code != OK:
            raise EngineError(f"Unicorn: {self.words(code)}")
