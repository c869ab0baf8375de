"""Where the data sets come from: file names, SHA-256 sums and addresses, as data.

The sums are those of the *decompressed* members, so that one sum vouches for a file however it
is packed: plain, ``.gz``, ``.xz`` or inside the published archive.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Download:
    """A file to fetch: its name, SHA-256, and addresses in order of preference."""

    name: str
    sha256: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Version:
    """One published form of a data set.

    Attributes:
        members: file name -> SHA-256 of its decompressed content.
        folders: sub-folders in which people keep these files, beside the given folder itself.
        archives: published archives that hold all members.
        downloads: what ``fetch`` gets; empty where another version is fetched instead.
    """

    format: str
    members: dict[str, str]
    folders: tuple[str, ...]
    archives: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()


@dataclass(frozen=True)
class Source:
    """A data set: its classes, input statistics and published forms.

    Attributes:
        shape: (channels, height, width).
        mean: mean of each channel over train, in [0, 1].
        std: standard deviation of each channel over train.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    train: int
    test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    versions: tuple[Version, ...] = ()


_MNIST_URLS = (
    "http://yann.lecun.com/exdb/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_CIFAR_URLS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://cave.cs.toronto.edu/kriz/",
)


def _downloads(urls: tuple[str, ...], **sums: str) -> tuple[Download, ...]:
    return tuple(
        Download(name, sha256, tuple(url + name for url in urls)) for name, sha256 in sums.items()
    )


DIGITS = Source(
    name="digits",
    title="8x8 digits of scikit-learn (UCI), upsampled to 28x28; comes with the package",
    classes=tuple("0123456789"),
    shape=(1, 28, 28),
    train=1437,
    test=360,
    mean=(0.3054,),
    std=(0.3246,),
)

MNIST = Source(
    name="mnist",
    title="MNIST handwritten digits (LeCun, Cortes, Burges)",
    classes=tuple("0123456789"),
    shape=(1, 28, 28),
    train=60_000,
    test=10_000,
    mean=(0.1307,),
    std=(0.3081,),
    versions=(
        Version(
            format="idx",
            members={
                "train-images-idx3-ubyte": (
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
                ),
                "train-labels-idx1-ubyte": (
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
                ),
                "t10k-images-idx3-ubyte": (
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
                ),
                "t10k-labels-idx1-ubyte": (
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
                ),
            },
            folders=("mnist", "MNIST", "MNIST/raw"),
            downloads=_downloads(
                _MNIST_URLS,
                **{
                    "train-images-idx3-ubyte.gz": (
                        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
                    ),
                    "train-labels-idx1-ubyte.gz": (
                        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
                    ),
                    "t10k-images-idx3-ubyte.gz": (
                        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
                    ),
                    "t10k-labels-idx1-ubyte.gz": (
                        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
                    ),
                },
            ),
        ),
    ),
)

CIFAR10 = Source(
    name="cifar10",
    title="CIFAR-10 images of objects (Krizhevsky 2009)",
    classes=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    shape=(3, 32, 32),
    train=50_000,
    test=10_000,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    versions=(
        Version(
            format="cifar-python",
            members={
                "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
                "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
                "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
                "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
                "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
                "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
            },
            folders=("cifar10", "cifar-10-batches-py", "cifar10/cifar-10-batches-py"),
            archives=("cifar-10-python.tar.gz",),
            downloads=_downloads(
                _CIFAR_URLS,
                **{
                    "cifar-10-python.tar.gz": (
                        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
                    )
                },
            ),
        ),
        Version(
            format="cifar-binary",
            members={
                "data_batch_1.bin": (
                    "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"
                ),
                "data_batch_2.bin": (
                    "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"
                ),
                "data_batch_3.bin": (
                    "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"
                ),
                "data_batch_4.bin": (
                    "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"
                ),
                "data_batch_5.bin": (
                    "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"
                ),
                "test_batch.bin": (
                    "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"
                ),
            },
            folders=("cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"),
            archives=("cifar-10-binary.tar.gz",),
        ),
    ),
)

#: Every data set by name.
SOURCES: dict[str, Source] = {source.name: source for source in (DIGITS, MNIST, CIFAR10)}
