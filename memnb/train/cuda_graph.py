from memnb.train.engine import Engine


def make_engine(kind, network, data, training, device):
    return Engine(network, data, training, device)
