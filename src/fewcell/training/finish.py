def finish(*a):
    pass
