"""A guest with disks that can be pulled and plugged, a TPM, and a power switch. Software emulation only: kvm hangs on some machines."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "bench"))
import box  # noqa: E402  (found through the line above)


class Said(str):
    """What a command of the guest wrote to standard output; `err` is what it wrote beside, `code` how it ended."""

    code: int
    err: str


class Lines:
    """JSON values, a line each, over a socket of QEMU."""

    def __init__(self, path, patience=30):
        deadline = time.monotonic() + patience
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise box.Failed(f"QEMU does not open {path}") from None
                time.sleep(0.1)
        self.file = self.socket.makefile("r")

    def send(self, value):
        self.socket.sendall(json.dumps(value).encode() + b"\n")

    def next(self):
        line = self.file.readline()
        if not line:
            raise box.Failed("the guest is gone")
        return json.loads(line)


class Guest:
    """One machine. Its disks are files of the folder `disks`, and stay as they are when its power is cut."""

    def __init__(self, kernel, folder):
        self.kernel, self.folder = pathlib.Path(kernel), pathlib.Path(folder)
        self.disks = {}
        self.process = self.tpm = None
        self.boots = self.plugged = 0

    def make_disk(self, name, size_mb):
        """A new empty disk with `name` as its serial number; it is plugged at the next boot, or by `plug`."""
        file = self.folder / f"{name}.img"
        file.unlink(missing_ok=True)
        with open(file, "wb") as disk:
            disk.truncate(size_mb << 20)
        self.disks[name] = file
        return file

    def boot(self, tpm=False):
        """Switches the machine on and returns when it takes commands."""
        self.boots += 1
        for name in ("qmp", "agent"):
            (self.folder / name).unlink(missing_ok=True)
        version = os.listdir(self.kernel / "kernel/lib/modules")[0]
        command = f"""
          qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 3G -nographic -no-reboot -nodefaults
          -serial file:{self.folder}/console-{self.boots}.log -qmp unix:{self.folder}/qmp,server=on,wait=off
          -kernel {self.kernel}/kernel/boot/vmlinuz-{version} -initrd {self.kernel}/initrd.gz
          -fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap
          -device virtio-9p-pci,fsdev=root,mount_tag=hostroot
          -fsdev local,id=out,path={self.folder},security_model=none -device virtio-9p-pci,fsdev=out,mount_tag=out
          -netdev user,id=net,restrict=on -device virtio-net-pci,netdev=net -device virtio-rng-pci
          -chardev socket,id=agent,path={self.folder}/agent,server=on,wait=off
          -device virtio-serial-pci -device virtserialport,chardev=agent,name=agent -device virtio-scsi-pci,id=scsi""".split()
        command += ["-append", f"console=ttyS0 quiet panic=-1 no_timer_check guest.run={HERE}/guest-run"]
        for number, (name, file) in enumerate(self.disks.items()):
            command += ["-drive", f"if=none,id=file-{name},format=raw,file={file}", "-device", device(name)]
        if tpm:
            self.start_tpm()
            command += ["-chardev", f"socket,id=tpm,path={self.folder}/tpm.socket", "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm"]
        with open(self.folder / "qemu.log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        began = time.monotonic()
        self.qmp = Lines(self.folder / "qmp")
        self.qmp.next()
        self.order("qmp_capabilities")
        self.agent = Lines(self.folder / "agent")
        self.agent.socket.settimeout(1200)
        try:
            self.agent.next()
        except (TimeoutError, box.Failed):
            raise box.Failed(f"the guest does not come up; see {self.folder}/console-{self.boots}.log") from None
        self.agent.socket.settimeout(None)
        self.waiting, self.number = {}, 0
        threading.Thread(target=self.listen, args=[self.agent, self.waiting], daemon=True).start()
        return time.monotonic() - began

    @staticmethod
    def listen(agent, waiting):
        try:
            while True:
                answer = agent.next()
                waiting.pop(answer["number"])(answer)
        except (box.Failed, OSError, ValueError):
            for tell in list(waiting.values()):
                tell({"code": -1, "out": "", "err": "the guest is gone"})

    def begin(self, command, timeout=600, input=""):
        """Begins a command in the guest; what is returned waits for its end."""
        done, box_of = threading.Event(), []
        self.number += 1
        self.waiting[self.number] = lambda answer: (box_of.append(answer), done.set())
        self.agent.send({"number": self.number, "command": command, "timeout": timeout, "input": input})

        def end():
            if not done.wait(timeout + 60):
                raise box.Failed(f"the guest does not answer: {command}")
            said = Said(box_of[0]["out"])
            said.code, said.err = box_of[0]["code"], box_of[0]["err"]
            return said

        return end

    def run(self, command, timeout=600, input="", refused=None):
        """Runs a command in the guest to its end. It must succeed, or fail with `refused` in what it says."""
        said = self.begin(command, timeout, input)()
        if refused is None and said.code != 0:
            raise box.Failed(f"`{command}` ended with {said.code} and said: {(said.err or said).strip()[-2000:]}")
        if refused is not None and (said.code == 0 or refused not in said.err + said):
            raise box.Failed(f"`{command}` should have been refused with {refused!r}; it ended with {said.code} and said: {said.err or said}")
        return said

    def order(self, command, **arguments):
        """One order to QEMU; its answer."""
        self.qmp.send({"execute": command, "arguments": arguments})
        while True:
            answer = self.qmp.next()
            if "error" in answer:
                raise box.Failed(f"QEMU refused {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def pull(self, name):
        """Pulls a disk out of the running machine."""
        self.order("device_del", id=f"disk-{name}")
        deadline = time.monotonic() + 60
        while name in self.run("lsblk --nodeps --noheadings --output SERIAL"):
            if time.monotonic() > deadline:
                raise box.Failed(f"the guest still has the disk {name}")
            time.sleep(0.2)
        del self.disks[name]

    def plug(self, name, size_mb=None):
        """Plugs a disk into the running machine: a new one of that size, or one that was pulled out of it."""
        file = self.make_disk(name, size_mb) if size_mb else self.folder / f"{name}.img"
        self.disks[name] = file
        self.plugged += 1
        node = f"plugged-{self.plugged}"
        self.order("blockdev-add", **{"driver": "raw", "node-name": node, "file": {"driver": "file", "filename": str(file)}})
        self.order("device_add", driver="scsi-hd", id=f"disk-{name}", drive=node, serial=name, bus="scsi.0")
        deadline = time.monotonic() + 60
        while name not in self.run("udevadm settle; lsblk --nodeps --noheadings --output SERIAL"):
            if time.monotonic() > deadline:
                raise box.Failed(f"the guest does not see the disk {name}")
            time.sleep(0.2)

    def cut_power(self):
        """Ends the machine at once; what its kernel had not written is gone."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        if self.tpm:
            self.tpm.terminate()
            self.tpm.wait()
            self.tpm = None

    def switch_off(self):
        """Ends the machine as its switch does: its kernel tells the TPM, which counts each end that it was not told of and locks itself after three within a few thousand seconds."""
        self.begin("sync; busybox poweroff -f")
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            raise box.Failed("the guest does not switch itself off") from None
        self.cut_power()

    def start_tpm(self):
        """A TPM whose memory outlives the machine's power, as a chip's does."""
        state = self.folder / "tpm"
        state.mkdir(exist_ok=True)
        (self.folder / "tpm.socket").unlink(missing_ok=True)
        self.tpm = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl",
                                     f"type=unixio,path={self.folder}/tpm.socket", "--flags", "not-need-init,startup-clear"],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not (self.folder / "tpm.socket").exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def forget_tpm(self):
        """Another TPM in place of this one, as in another box."""
        shutil.rmtree(self.folder / "tpm", ignore_errors=True)


def device(name):
    return f"scsi-hd,id=disk-{name},drive=file-{name},serial={name},bus=scsi.0"
