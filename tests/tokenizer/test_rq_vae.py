"""RQ-VAE: its loss against a plain loop, its start, the revival of dead codes, and the tokenizer that it becomes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lgsid_ray.config.tokenizer import RqVaeConfig
from lgsid_ray.errors import StorageError
from lgsid_ray.tokenizer.assign import assign, squares
from lgsid_ray.tokenizer.rq_vae import RqVae, tokenizer_of
from lgsid_ray.tokenizer.tokenizer import FILE, Tokenizer

CONFIG = RqVaeConfig(sizes=[8, 6], hidden=[12, 10], latent=4)


def groups(count: int = 600, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = 2 + np.random.default_rng(9).standard_normal((20, 16))[rng.integers(0, 20, count)]
    return (rows + 0.3 * rng.standard_normal((count, 16))).astype(np.float32)


def started(config: RqVaeConfig = CONFIG) -> RqVae:
    torch.manual_seed(0)
    model = RqVae(groups(), config)
    model.start(groups(), 0)
    return model


def trained(config: RqVaeConfig = CONFIG, steps: int = 300) -> RqVae:
    model, rows = started(config), torch.from_numpy(groups())
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        sum(model(rows)).backward()
        optimiser.step()
    return model


def error(model: RqVae, rows: np.ndarray) -> float:
    """Relative to the variance."""
    tokenizer = tokenizer_of(model, "rq_vae")
    rest = rows - tokenizer.decode(tokenizer.encode(None, rows))
    return float(np.square(rest).sum() / np.square(rows - rows.mean(axis=0)).sum())


def test_the_loss_is_that_of_a_plain_loop() -> None:
    model, rows = started(), groups(40, 1)
    with torch.no_grad():
        latents = model.latent(torch.from_numpy(rows)).double().numpy()
        found = [float(part) for part in model(torch.from_numpy(rows))]
    books = 0.0
    chosen = np.zeros_like(latents)
    for row, left in enumerate(latents.copy()):
        for codebook in model.codebooks:
            centres = codebook.detach().double().numpy()
            nearest = centres[np.argmin([np.square(left - centre).sum() for centre in centres])]
            books += (1 + CONFIG.commitment) * np.square(left - nearest).mean() / len(rows)
            chosen[row] += nearest
            left = left - nearest
    with torch.no_grad():
        decoded = model.decoder(torch.from_numpy(chosen).float()).double().numpy()
    wanted = rows - groups().mean(axis=0)
    scale = np.sqrt(np.square(groups() - groups().mean(axis=0)).mean())
    assert found[0] == pytest.approx(np.square(decoded - wanted / scale).mean(), rel=1e-4)
    assert found[1] == pytest.approx(books, rel=1e-4)


def test_gradients_reach_encoder_codebooks_and_decoder_and_commitment_only_the_encoder() -> None:
    grads = []
    for commitment in (0.25, 2.0):
        model = started(CONFIG.model_copy(update={"commitment": commitment}))
        sum(model(torch.from_numpy(groups()))).backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
        grads.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in grads[0].items():
        assert torch.equal(gradient, grads[1][name]) != name.startswith("encoder"), name


def test_training_gains_on_the_start_and_holds_for_rows_that_it_never_saw() -> None:
    assert error(trained(), groups(400, 5)) < 0.5 * error(started(), groups(400, 5))


def test_dead_codes_go_to_far_rows_and_living_ones_stay() -> None:
    model = started()
    with torch.no_grad():
        model.codebooks[0][3] = 1e3
    books, figures = model.revived(torch.from_numpy(groups()))
    before = model.codebooks[0].detach()
    moved = (books["codebooks.0"] != before).any(dim=1)
    assert moved.tolist() == [code == 3 for code in range(8)]
    latents = model.latent(torch.from_numpy(groups())).detach().numpy()
    distance = squares(latents, before.numpy(), assign(latents, before.numpy()))
    assert books["codebooks.0"][3].numpy() == pytest.approx(latents[distance.argmax()])
    assert 1 <= figures["perplexity_1"] <= 7


def test_the_saved_tokenizer_is_the_network(tmp_path: Path) -> None:
    model, rows = trained(steps=50), groups(200, 7)
    tokenizer_of(model, "rq_vae").save(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.dimension == 16
    with torch.no_grad():
        latents = model.latent(torch.from_numpy(rows))
        left, tokens = latents.numpy(), []
        for codebook in model.codebooks:
            tokens.append(assign(left, codebook.numpy()))
            left = left - codebook.numpy()[tokens[-1]]
        decoded = model.decoder(latents - torch.from_numpy(left)) * model.scale + model.mean
    found = tokenizer.encode(None, rows)
    assert (found == np.stack(tokens, axis=1)).mean() > 0.995  # float32 rounds a latent on a border either way
    alike = (found == np.stack(tokens, axis=1)).all(axis=1)
    assert tokenizer.decode(found)[alike] == pytest.approx(decoded.numpy()[alike], abs=1e-4)
    alone = np.concatenate([tokenizer.encode(None, rows[at : at + 1]) for at in range(len(rows))])
    assert np.array_equal(alone, found)


def test_a_file_without_its_decoder_is_refused(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(started(), "rq_vae")
    assert tokenizer.latent is not None
    whole = tokenizer.latent.tensors()  # type: ignore[attr-defined]
    partial = {name: tensor for name, tensor in whole.items() if name.startswith("encoder")}
    with pytest.raises(KeyError, match="decoder"):
        type(tokenizer.latent).of(partial)  # type: ignore[attr-defined]
    tokenizer.save(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content.replace(b"decoder_1", b"decodex_1"))
    with pytest.raises(StorageError, match="corrupt"):
        Tokenizer.load(tmp_path)
