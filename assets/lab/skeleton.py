"""My virtual machine monitor. The manual is lab.md, beside this file; `ringscope lab` lists the steps.

ringscope lab check 1 vmm.py        hold it against Ringscope's VMM
ringscope lab show 1 vmm.py         both side by side, exit by exit
"""


def vmm(guest):
    """Run the guest until it has ended."""
    while guest.running:
        stop = guest.enter()  # the CPU executes the guest, at ring 3, until it cannot go on

        # Why did it come back? `stop` says so, and `stop.instruction` is the instruction at which it
        # was left. Print what you want to know: `lab check` shows it where a guest goes wrong.
        print(stop)

        # Step 1: the guest is left at OUT, since ring 3 may not talk to devices: the CPU raised #GP
        # (vector 13). Do what it wanted:
        #     port, value = stop.instruction.operands
        #     guest.ports.write(guest.read(port), value.size, guest.read(value))
        # and let it go on behind the instruction, which is stop.instruction.length bytes long:
        #     guest.registers.rip += ...

        return
