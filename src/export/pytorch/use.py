def load(path=None):
    """The network with the weights of a file; without one, of that beside this script."""
    path = Path(__file__).with_suffix(".safetensors") if path is None else path
    return Network(Store(path)).eval()


def main():
    import numpy as np

    parser = argparse.ArgumentParser(description=f"Runs {MODEL} on inputs in an .npy file.")
    parser.add_argument("inputs", help="float32, preprocessed; the first axis is the batch")
    parser.add_argument("--labels", help="an .npy file with the class of every input")
    parser.add_argument("--out", help="file for the first output")
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    network = load()
    inputs = torch.from_numpy(np.load(options.inputs).astype(np.float32))
    outputs = []
    with torch.no_grad():
        for batch in inputs.split(options.batch):
            results = network(batch)
            outputs.append(results if torch.is_tensor(results) else results[0])
    outputs = torch.cat(outputs)
    if options.out:
        np.save(options.out, outputs.numpy())
    if options.labels:
        labels = torch.from_numpy(np.load(options.labels).astype(np.int64))
        right = int((outputs.argmax(1) == labels).sum())
        print(f"{right} of {len(labels)} right: {100 * right / len(labels):.2f} %")
    else:
        print(f"outputs of shape {list(outputs.shape)}")


if __name__ == "__main__":
    main()
