def vmm(guest):
    registers, ports = guest.registers, guest.ports
    while guest.running:
        instruction = guest.enter().instruction
        if instruction.mnemonic == "out":
            port, value = instruction.operands
            ports.write(guest.read(port), value.size, guest.read(value))
        elif instruction.mnemonic == "in":
            value, port = instruction.operands
            guest.write(value, ports.read(guest.read(port), value.size))
        registers.rip += instruction.length
