"""Updates: fetched, unpacked, read back, put on trial; whatever goes wrong, what ran before still starts."""

# ruff: noqa: SIM105, UP041 - MicroPython has no contextlib and a TimeoutError of its own

import asyncio
import hashlib
import io
import os
import sys

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

import esp32
from core_boot import Nvs, PowerCut, boot
from nodeboot import PARTITION
from ota_server import Server, archive, member
from sensornode import updates
from sensornode.updates import AppPartition, FileSlot, fetch, install

FILES = [
    ("sensornode/__init__.py", b"__version__ = '0.2.0'\n"),
    ("sensornode/node.mpy", bytes(range(256)) * 9),
    ("sensornode/empty.py", b""),
    ("sensornode/sensors/__init__.py", b"#" * 512),
    ("sensornode/comb.bin", bytes(5000)),
]


class Board:
    def __init__(self, partition=None):
        self.partition = partition
        self.booted = None

    def hardware(self):
        return "ESP32 module with ESP32"

    def next_partition(self):
        return self.partition

    def boot_from(self, partition):
        self.booted = partition


class Disk:
    """Files in memory; every change costs power, and a write that has none left is done by half."""

    def __init__(self, nvs):
        self.files = {}
        self.dirs = {"/app_a", "/app_a/sensornode"}
        self.nvs = nvs  # one battery for both

    def spend(self):
        if self.nvs.power is not None:
            if not self.nvs.power:
                raise PowerCut
            self.nvs.power -= 1

    def open(self, path, mode):
        if mode == "rb":
            return io.BytesIO(self.files[path])
        if path.rpartition("/")[0] not in self.dirs:
            raise OSError(2)
        self.spend()
        self.files[path] = b""
        return Writer(self, path)

    def listdir(self, path):
        names = set()
        for name in list(self.files) + list(self.dirs):
            if name.startswith(path + "/"):
                names.add(name[len(path) + 1 :].split("/")[0])
        return sorted(names)

    def is_dir(self, path):
        if path in self.dirs:
            return True
        if path not in self.files:
            raise OSError(2)
        return False

    def remove(self, path):
        self.spend()
        del self.files[path]

    def rmdir(self, path):
        assert not self.listdir(path)
        self.spend()
        self.dirs.remove(path)

    def mkdir(self, path):
        if path in self.dirs:
            raise OSError(17)
        self.spend()
        self.dirs.add(path)

    def application(self, slot):
        """What a slot holds, as the archive names it; without what was written down about it."""
        start = "/app_" + "ab"[slot]
        return {
            path[7:]: data
            for path, data in self.files.items()
            if path.startswith(start) and not path.endswith("/whole")
        }


class Writer:
    def __init__(self, disk, path):
        self.disk = disk
        self.path = path

    def write(self, data):
        try:
            self.disk.spend()
        except PowerCut:
            self.disk.files[self.path] += bytes(data[: len(data) // 2])
            raise
        self.disk.files[self.path] += bytes(data)
        return len(data)

    def close(self):
        pass


class Order:
    """What `orders.UpdateOrder` makes of a manifest."""


def order(image, server, sequence=1, **more):
    content = Order()
    content.sequence = sequence
    content.version, content.minimum = 20, 10
    content.form = "files"
    content.size = len(image)
    content.sha256 = hashlib.sha256(image).digest()
    content.url = server.url
    content.board = None
    for name, value in more.items():
        setattr(content, name, value)
    return content


async def refused(image, **more):
    """Install what must not be installed; nothing may have changed but the slot that does not run."""
    script = more.pop("script", None)
    document = more.pop("document", image)
    server = await Server(document, script).start()
    nvs = Nvs()
    disk = Disk(nvs)
    disk.files["/app_a/sensornode/node.py"] = b"runs"
    life = boot(nvs)
    try:
        await install(order(image, server, **more), life, "", None, Board(), disk)
    except (asyncio.TimeoutError, OSError, ValueError) as error:
        assert disk.application(0) == {"sensornode/node.py": b"runs"}
        assert not boot(nvs).on_trial
        return str(error)
    finally:
        await server.stop()
    raise AssertionError("installed")


def also(name):
    """An archive with one member more."""
    files = [(name, b"x")]
    files += FILES
    return archive(files)


async def test_an_archive_becomes_the_other_slot_and_goes_on_trial():
    image = archive(FILES)
    server = await Server(image).start()
    nvs = Nvs()
    disk = Disk(nvs)
    life = boot(nvs)
    await install(order(image, server), life, "", None, Board(), disk)
    await server.stop()
    assert disk.application(1) == dict(FILES)
    life = boot(nvs)
    assert (life.active, life.version, life.next_minimum) == (1, 20, 10)
    assert server.asked[0].startswith(b"GET /image HTTP/1.0")


async def test_both_applications_are_written_down_so_that_their_rot_is_noticed():
    image = archive(FILES)
    server = await Server(image).start()
    nvs = Nvs()
    disk = Disk(nvs)
    disk.files["/app_a/sensornode/node.py"] = b"runs"
    life = boot(nvs)
    await install(order(image, server), life, "", None, Board(), disk)
    for slot, version in ((0, 1 << 10), (1, 20)):
        text = disk.files[f"/app_{'ab'[slot]}/whole"].decode()
        *lines, end = text.split("\n")
        assert lines[0] == f"1 {version}"
        assert end == hashlib.sha256(text[:-64].encode()).digest().hex()
        listed = sorted((line[65:], line[:64]) for line in lines[1:])
        assert listed == sorted(
            (name, hashlib.sha256(data).digest().hex()) for name, data in disk.application(slot).items()
        )
    # what was written down about the running one when it came is not written again
    before = disk.files["/app_a/whole"]
    disk.files["/app_a/sensornode/node.py"] = b"rots"
    life.give_up()
    server.script = None
    await install(order(image, server, 2), life, "", None, Board(), disk)
    assert disk.files["/app_a/whole"] == before
    await server.stop()


async def test_it_may_come_in_pieces_of_any_size():
    image = archive(FILES)
    for size in (1, 7, 511, 512, 513, 5000, len(image)):
        disk = Disk(Nvs())
        slot = FileSlot("/app_b", disk)
        for at in range(0, len(image), size):
            slot.write(image[at : at + size])
        await slot.check()
        assert disk.application(1) == dict(FILES)


async def test_what_the_slot_held_is_gone():
    disk = Disk(Nvs())
    for files in (FILES, FILES[:2]):
        slot = FileSlot("/app_b", disk)
        slot.write(archive(files))
        await slot.check()
    assert disk.application(1) == dict(FILES[:2])


async def test_an_archive_made_by_tar_with_directories_is_taken():
    disk = Disk(Nvs())
    slot = FileSlot("/app_b", disk)
    slot.write(
        member("./", b"", b"5") + member("sensornode/", b"", b"5") + member("sensornode/sensors/", b"", b"5")
    )
    slot.write(archive([("./" + name, content) for name, content in FILES]))
    await slot.check()
    assert disk.application(1) == dict(FILES)


async def test_an_archive_that_is_none_or_reaches_out_is_refused():
    whole = archive(FILES)
    broken = bytearray(whole)
    broken[5] ^= 1
    for image in (
        bytes(broken),
        b"x" * 600,
        also("../main.py"),
        also("/main.py"),
        also("main.py"),
        also("sensornode"),
        also("sensornode/../../main.py"),
        also("sensornode//x.py"),
        also("sensornode/.x"),
        also("sensornode/a/b/c/d.py"),
        also("sensornode/x y.py"),
        also("sensornode/node.mpy"),
        member("sensornode/x", b"", b"2") + whole,
        whole + member("sensornode/x.py", b"x"),
        member("sensornode/x.py", b"", size=-1 & 0o7777777) + whole,
        archive(FILES, end=False),
        archive(FILES)[:2000],
        archive(FILES[1:]),
        archive(FILES[:1]),
        bytes(1024),
        b"",
    ):
        await refused(image, size=max(1, len(image)))


async def test_an_image_that_is_not_the_signed_one_is_refused():
    image = archive(FILES)
    other = bytearray(image)
    other[len(other) - 1500] ^= 1
    assert "signed" in await refused(image, document=bytes(other))
    assert "bytes" in await refused(image, document=image + bytes(512))
    assert "bytes" in await refused(image, document=image[:-512])
    assert "another board" in await refused(image, board="ESP32S3")
    assert "OTA slots" in await refused(image, form="app")
    assert "broker.ca" in await refused(image, url="https://127.0.0.1/")


async def test_a_server_that_misbehaves_costs_the_update():
    image = archive(FILES)

    def saying(data):
        async def script(writer):
            writer.write(data)
            await writer.drain()

        return script

    assert "404" in await refused(image, script=saying(b"HTTP/1.1 404 Not Found\r\n\r\n"))
    assert "302" in await refused(image, script=saying(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n"))
    assert "no HTTP" in await refused(image, script=saying(b"220 mail ESMTP\r\n"))
    assert "no HTTP" in await refused(image, script=saying(b""))
    assert "no HTTP" in await refused(image, script=saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 3000))
    assert "header" in await refused(image, script=saying(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100))
    assert "signed" in await refused(image, script=saying(b"HTTP/1.1 200 OK\r\n\r\n" + image[:3000]))
    assert "longer" in await refused(image, script=saying(b"HTTP/1.1 200 OK\r\n\r\n" + image + b"\0"))
    loop = await Server().start()
    loop.script = saying(b"HTTP/1.1 301 Moved\r\nLocation: " + loop.url.encode() + b"\r\n\r\n")
    assert "redirections" in await refused(image, url=loop.url)
    assert len([line for line in loop.asked if line.startswith(b"GET")]) == 4
    await loop.stop()


async def test_a_redirection_is_followed():
    image = archive(FILES)
    end = await Server(image).start()

    async def move(writer):
        writer.write(b"HTTP/1.1 307 Temporary\r\nlocation: " + end.url.encode() + b"\r\n\r\n")
        await writer.drain()

    begin = await Server(b"", move).start()
    nvs = Nvs()
    await install(order(image, begin), boot(nvs), "", None, Board(), Disk(nvs))
    assert boot(nvs).active == 1
    await begin.stop()
    await end.stop()


async def test_the_name_of_a_server_is_looked_up_beside_the_other_tasks():
    from sensornode import http

    asked = []

    async def address(host, port):
        asked.append((host, port))
        return "127.0.0.1"

    image = archive(FILES)
    server = await Server(image).start()
    before = http.address
    http.address = address
    try:
        download = http.Download()
        await download.open(server.url.replace("127.0.0.1", "files.test"))
        await download.close()
    finally:
        http.address = before
    assert [host for host, _ in asked] == ["files.test"]
    assert b"Host: files.test" in b"".join(server.asked)
    await server.stop()


async def test_a_server_that_falls_silent_is_given_up():
    async def silent(writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n123")
        await writer.drain()
        await asyncio.sleep(5)

    server = await Server(b"", silent).start()
    slot = FileSlot("/app_b", Disk(Nvs()))
    try:
        await fetch(order(bytes(10000), server), slot, None, 0.3)
    except asyncio.TimeoutError:
        return
    except ValueError as error:
        raise AssertionError("the timeout was taken for an end") from error
    raise AssertionError("waited for ever")


async def test_flash_that_takes_no_more_or_reads_otherwise_costs_the_update():
    image = archive(FILES)
    for fault in ("short", "rotten"):
        disk = Disk(Nvs())

        class Faulty(Writer):
            def write(self, data, fault=fault):
                if fault == "short" and len(data) > 1000:
                    return len(data) - 1
                changed = bytearray(data)
                changed[-1] ^= 1
                return super().write(changed if len(data) > 1000 else data)

        disk.open = lambda path, mode, disk=disk, kind=Faulty: (
            io.BytesIO(disk.files[path]) if mode == "rb" else kind(disk, path)
        )

        slot = FileSlot("/app_b", disk)
        for path, _ in FILES:
            disk.files["/app_b/" + path] = b""
        try:
            slot.write(image)
            await slot.check()
        except (OSError, ValueError) as error:
            assert "full" in str(error) or "written" in str(error)
        else:
            raise AssertionError(fault)


async def test_power_cut_at_every_write_leaves_an_application_that_starts():
    old = {"sensornode/node.py": b"runs", "sensornode/__init__.py": b""}
    image = archive(FILES)
    server = await Server(image).start()
    cut = 0
    while True:
        nvs = Nvs()
        disk = Disk(nvs)
        for name, content in old.items():
            disk.files["/app_a/" + name] = content
        # what an earlier update left in the other slot
        disk.dirs |= {"/app_b", "/app_b/sensornode"}
        disk.files["/app_b/sensornode/node.py"] = b"older"
        life = boot(nvs)
        nvs.power = cut
        try:
            await install(order(image, server), life, "", None, Board(), disk)
        except PowerCut:
            pass
        left, nvs.power = nvs.power, None
        life = boot(nvs)
        assert disk.application(life.active) == (dict(FILES) if life.active else old), cut
        assert disk.application(0) == old
        if life.active:
            assert left or cut
            # on trial; when no receipt comes, the old one is still there
            for _ in range(5):
                life = boot(nvs)
            assert disk.application(life.active) == old
        elif not life.on_trial:
            assert life.takes_update(1)
        if left:
            break
        cut += 1
    assert cut > 15, cut
    await server.stop()


def board_with_slots():
    for label in ("ota_0", "ota_1"):
        with open(label, "wb") as file:
            for _ in range(
                esp32.Partition.SIZE // 4096
            ):  # a megabyte in one piece is more than some heaps have left
                file.write(bytes(4096))
    with open("otadata", "w") as file:
        file.write('["ota_0", "ota_0", false]')


def board_without_slots():
    for name in ("ota_0", "ota_1", "otadata"):
        try:
            os.remove(name)
        except OSError:
            pass


async def test_an_image_for_a_partition_is_started_once_and_confirmed_by_a_receipt():
    from sensornode import board

    board_with_slots()
    image = os.urandom(10_000)
    server = await Server(image).start()
    nvs = Nvs()
    life = boot(nvs)
    await install(order(image, server, form="app"), life, "", None, board)
    await server.stop()
    with open("ota_1", "rb") as file:
        assert file.read(len(image)) == image
    assert life.trial == PARTITION
    assert esp32.bootloader() == "ota_1"
    board.confirm_partition()
    boot(nvs).well(True)
    assert esp32.bootloader() == esp32.bootloader() == "ota_1"
    # the next one is not confirmed: the bootloader goes back, and the application sees it by its version
    server = await Server(image).start()
    await install(order(image, server, 2, form="app"), boot(nvs), "", None, board)
    await server.stop()
    assert esp32.bootloader() == "ota_0"
    assert esp32.bootloader() == "ota_1"
    board_without_slots()


async def test_a_bootloader_that_refuses_an_image_ends_the_trial_at_once():
    class Refusing(Board):
        def boot_from(self, partition):
            raise OSError("the image was refused")

    board_with_slots()
    image = os.urandom(5000)
    server = await Server(image).start()
    nvs = Nvs()
    life = boot(nvs)
    try:
        await install(order(image, server, form="app"), life, "", None, Refusing(esp32.Partition("ota_1")))
    except OSError as error:
        assert "refused" in str(error)
    else:
        raise AssertionError("installed")
    finally:
        await server.stop()
    assert not life.on_trial  # a node on trial takes no other order
    assert not boot(nvs).on_trial
    assert life.takes_update(1)
    board_without_slots()


async def test_an_image_whose_application_would_never_run_is_refused():
    server = await Server(b"").start()
    nvs = Nvs()
    life = boot(nvs)
    target = Board(esp32.Partition("ota_1"))
    try:
        # of what lies in files and in the image nodeboot.py starts the former
        await install(order(b"x", server, form="app"), life, "", None, target, Disk(nvs))
    except ValueError as error:
        assert "files" in str(error)
    else:
        raise AssertionError("installed")
    finally:
        await server.stop()
    assert target.booted is None
    assert not boot(nvs).on_trial


async def test_a_board_without_ota_partitions_says_so():
    from sensornode import board

    board_without_slots()
    assert board.next_partition() is None
    board.confirm_partition()


async def test_an_image_that_a_partition_keeps_otherwise_is_refused():
    class Rotten(esp32.Partition):
        def writeblocks(self, number, buffer):
            super().writeblocks(number, bytes(buffer[:-1]) + b"\x55")

    board_with_slots()
    image = os.urandom(4096 * 2)
    target = AppPartition(Rotten("ota_1"), len(image), hashlib.sha256(image).digest())
    target.write(image)
    try:
        await target.check()
    except ValueError as error:
        assert "not written" in str(error)
    else:
        raise AssertionError("took it")
    try:
        AppPartition(esp32.Partition("ota_1"), esp32.Partition.SIZE + 1, bytes(32))
    except ValueError as error:
        assert "larger" in str(error)
    else:
        raise AssertionError("took it")
    board_without_slots()


def test_the_real_disk_removes_a_tree():
    root = os.getcwd() + "/tree"
    for path in (root, root + "/a", root + "/a/b"):
        os.mkdir(path)
        with open(path + "/file", "w") as file:
            file.write("x")
    updates._remove(updates.Disk, root)
    updates._remove(updates.Disk, root)
    try:
        os.stat(root)
    except OSError:
        return
    raise AssertionError("still there")
