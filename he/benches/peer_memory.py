"""Largest resident memory and sizes of other libraries, over the chain of the bench `memory`.

    python3.11 -m venv seal-env && seal-env/bin/pip install tenseal==0.3.18
    python3.10 -m venv openfhe-env && openfhe-env/bin/pip install openfhe==1.6.1.0.22.4
    seal-env/bin/python he/benches/peer_memory.py seal
    OMP_NUM_THREADS=1 openfhe-env/bin/python he/benches/peer_memory.py openfhe

SEAL is the one inside TenSEAL, through its own interface (`tenseal.sealapi`); OpenFHE is its own
wheel; each asks for the Python it was built for. Not part of any test. Each set runs in a process
of its own. The peak of a process (`VmHWM`, Linux) is set back to what is resident once the library
is loaded and the list of values made, and printed in MiB above that: with context and secret; with
public, relinearisation and rotation key (OpenFHE makes the public key with the secret); after
encoding, two public encryptions, product, relinearisation, rotation, rescale and decryption; and
after decoding, which makes a Python list. Sizes are bytes as each library writes by default (SEAL
compresses).
"""

import subprocess
import sys
import tempfile

# name: log2 of the degree, bits of the data primes, bits of the scale, digits for OpenFHE
SETS = {
    "A1": (13, [60, 40], 40, [2]),
    "A3": (13, [60, 40, 40], 40, [3]),
    "B": (14, [60] + [40] * 7, 40, [8, 4]),
    "C": (15, [60] + [50] * 14, 50, [15, 8]),
}


def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


class Peak:
    def __init__(self):
        with open("/proc/self/clear_refs", "w") as control:
            control.write("5")
        self.start, self.at = resident("VmHWM:"), []

    def note(self):
        self.at.append(resident("VmHWM:") - self.start)


def seal(log_n, primes, log_scale, _):
    import tenseal.sealapi as s

    n, scale = 1 << log_n, 2.0**log_scale
    values = [complex(0.5, -0.25)] * (n // 2)
    peak = Peak()
    literal = s.EncryptionParameters(s.SCHEME_TYPE.CKKS)
    literal.set_poly_modulus_degree(n)
    literal.set_coeff_modulus(s.CoeffModulus.Create(n, primes + [60]))
    context = s.SEALContext(literal, True, s.SEC_LEVEL_TYPE.TC128)
    keys = s.KeyGenerator(context)
    secret, public = keys.secret_key(), s.PublicKey()
    peak.note()
    keys.create_public_key(public)
    relin, galois = s.RelinKeys(), s.GaloisKeys()
    keys.create_relin_keys(relin)
    keys.create_galois_keys([3], galois)
    peak.note()
    encoder, evaluator = s.CKKSEncoder(context), s.Evaluator(context)
    plain, got = s.Plaintext(), s.Plaintext()
    encoder.encode(values, scale, plain)
    a, b, product, out = (s.Ciphertext() for _ in range(4))
    encryptor = s.Encryptor(context, public)
    encryptor.encrypt(plain, a)
    encryptor.encrypt(plain, b)
    evaluator.multiply(a, b, product)
    evaluator.relinearize(product, relin, out)
    evaluator.rotate_vector(out, 1, galois, a)
    evaluator.rescale_to_next_inplace(a)
    s.Decryptor(context, secret).decrypt(a, got)
    peak.note()
    decoded = encoder.decode_complex(got)
    peak.note()

    def size(thing):
        with tempfile.NamedTemporaryFile() as file:
            thing.save(file.name)
            return file.seek(0, 2)

    return peak.at, decoded, {"ciphertext": size(b), "relinearisation key": size(relin)}


def openfhe(log_n, primes, log_scale, digits):
    import openfhe as o

    n = 1 << log_n
    values = [complex(0.5, -0.25)] * (n // 2)
    peak = Peak()
    literal = o.CCParamsCKKSRNS()
    literal.SetSecurityLevel(o.HEStd_NotSet)
    literal.SetRingDim(n)
    literal.SetBatchSize(n // 2)
    literal.SetMultiplicativeDepth(len(primes) - 1)
    literal.SetFirstModSize(primes[0])
    literal.SetScalingModSize(log_scale)
    literal.SetScalingTechnique(o.FIXEDMANUAL)
    literal.SetKeySwitchTechnique(o.HYBRID)
    literal.SetNumLargeDigits(digits)
    literal.SetCKKSDataType(o.COMPLEX)
    context = o.GenCryptoContext(literal)
    for feature in (o.PKE, o.KEYSWITCH, o.LEVELEDSHE):
        context.Enable(feature)
    keys = context.KeyGen()
    peak.note()
    context.EvalMultKeyGen(keys.secretKey)
    context.EvalRotateKeyGen(keys.secretKey, [1])
    peak.note()
    plain = context.MakeCKKSPackedPlaintext(values)
    a, b = (context.Encrypt(keys.publicKey, plain) for _ in range(2))
    product = context.EvalMultNoRelin(a, b)
    out = context.Relinearize(product)
    lower = context.Rescale(context.EvalRotate(out, 1))
    got = context.Decrypt(lower, keys.secretKey)
    got.SetLength(n // 2)
    peak.note()
    decoded = got.GetCKKSPackedValue()
    peak.note()
    with tempfile.NamedTemporaryFile() as file:
        context.SerializeEvalMultKey(file.name, o.BINARY, "")
        key = file.seek(0, 2)
    return peak.at, decoded, {"ciphertext": len(o.Serialize(b, o.BINARY)), "relinearisation key": key}


def main(arguments):
    if len(arguments) == 1:
        for name, (_, _, _, digits) in SETS.items():
            for count in digits if arguments == ["openfhe"] else [0]:
                command = [sys.executable, __file__, *arguments, name, str(count)]
                subprocess.run(command, check=True)
        return
    library, name, digits = arguments
    run = {"seal": seal, "openfhe": openfhe}[library]
    log_n, primes, log_scale, _ = SETS[name]
    peaks, decoded, sizes = run(log_n, primes, log_scale, int(digits))
    error = max(abs(z - complex(0.1875, -0.25)) for z in decoded)
    assert error < 1e-4, error
    peaks = ", ".join(f"{peak:.1f}" for peak in peaks)
    print(f"{name} {library} {digits}: {peaks} MiB; {sizes}; error {error:.1e}", flush=True)


main(sys.argv[1:])
