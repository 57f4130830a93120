"""What firmware code imports from MicroPython's `micropython` module, for CPython."""


def const(value):
    return value


def native(function):
    return function


viper = native


def schedule(function, argument):
    function(argument)
