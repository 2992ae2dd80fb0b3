"""The machines: guest programs, the PC they see, and the engines that execute them."""
