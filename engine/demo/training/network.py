"""gpt-oss in PyTorch, small: the same arithmetic as `mlx_lm.models.gpt_oss`, made to be trained.

Embedding and head rows are built from features (see `vocabulary`), so only the rows of frequent
tokens are learned one by one; `merged_rows` gives the full tables for the export.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .vocabulary import CODE_DIMS, FORMS, VOCABULARY_SIZE, stem_codes, token_features


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of the network; the defaults are the shipped model's."""

    hidden: int = 64
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    experts: int = 4
    active_experts: int = 2
    intermediate: int = 128
    window: int = 128
    theta: float = 150_000.0
    factor: float = 32.0
    original_context: int = 4096
    epsilon: float = 1e-5

    def is_sliding(self, layer: int) -> bool:
        """Layers alternate: sliding, full, sliding, full."""
        return layer % 2 == 0


def yarn_angles(shape: Shape) -> tuple[Tensor, float]:
    """Angle a position of each pair of dimensions, and YaRN's factor on queries and keys."""
    dims, base = shape.head_dim, shape.theta
    extra = base ** (torch.arange(0, dims, 2, dtype=torch.float64) / dims)
    inter = shape.factor * extra

    def corrected(rotations: float) -> float:
        turns = shape.original_context / (rotations * 2 * math.pi)
        return dims * math.log(turns) / (2 * math.log(base))

    low, high = max(math.floor(corrected(32)), 0), min(math.ceil(corrected(1)), dims - 1)
    ramp = ((torch.arange(dims // 2, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
    kept = 1 - ramp
    periods = inter * extra / (inter * kept + extra * (1 - kept))
    return (1 / periods).float(), 0.1 * math.log(shape.factor) + 1


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate halves; x: (rows, heads, length, head_dim), cos and sin: (rows, 1, length, half)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    """Grouped-query attention with biases; the sinks stay at zero, which is a zero key."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.heads * shape.head_dim
        kv_width = shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, width)
        self.k_proj = nn.Linear(shape.hidden, kv_width)
        self.v_proj = nn.Linear(shape.hidden, kv_width)
        self.o_proj = nn.Linear(width, shape.hidden)

    def forward(self, x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attend; `mask` is (rows, 1, length, length + 1), its first column the sink."""
        rows, length, _ = x.shape
        shape = self.shape

        def split(y: Tensor) -> Tensor:
            return y.view(rows, length, -1, shape.head_dim).transpose(1, 2)

        q = rotate(split(self.q_proj(x)), cos, sin)
        k = rotate(split(self.k_proj(x)), cos, sin)
        v = split(self.v_proj(x))
        groups = shape.heads // shape.kv_heads
        k = functional.pad(k, (0, 0, 1, 0)).repeat_interleave(groups, dim=1)
        v = functional.pad(v, (0, 0, 1, 0)).repeat_interleave(groups, dim=1)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(y.transpose(1, 2).reshape(rows, length, -1))


class Experts(nn.Module):
    """A mixture of clipped SwiGLU experts; all are computed, the best `active_experts` count."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        wide, narrow = shape.intermediate, shape.hidden
        self.router = nn.Linear(narrow, shape.experts)
        self.gate_proj = nn.Parameter(torch.randn(shape.experts, wide, narrow) * narrow**-0.5)
        self.up_proj = nn.Parameter(torch.randn(shape.experts, wide, narrow) * narrow**-0.5)
        self.down_proj = nn.Parameter(torch.zeros(shape.experts, narrow, wide))
        self.gate_bias = nn.Parameter(torch.zeros(shape.experts, wide))
        self.up_bias = nn.Parameter(torch.zeros(shape.experts, wide))
        self.down_bias = nn.Parameter(torch.zeros(shape.experts, narrow))

    def forward(self, x: Tensor) -> Tensor:
        """Route and mix; x: (tokens, hidden)."""
        best, chosen = self.router(x).float().topk(self.shape.active_experts, dim=-1)
        share = x.new_zeros(x.shape[0], self.shape.experts, dtype=torch.float32)
        share = share.scatter(1, chosen, best.softmax(dim=-1))
        total = share @ self.down_bias
        wide, experts = self.shape.intermediate, self.shape.experts
        gate = functional.linear(x, self.gate_proj.flatten(0, 1), self.gate_bias.flatten())
        up = functional.linear(x, self.up_proj.flatten(0, 1), self.up_bias.flatten())
        gate, up = gate.clamp(max=7), up.clamp(-7, 7)
        inner = gate * torch.sigmoid(1.702 * gate) * (up + 1)
        inner = inner.view(-1, experts, wide) * share.to(inner.dtype).unsqueeze(-1)
        down = self.down_proj.transpose(0, 1).reshape(self.shape.hidden, experts * wide)
        return total + functional.linear(inner.flatten(1), down)


class Block(nn.Module):
    """Attention and experts, each after a norm and added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = Experts(shape)
        self.input_layernorm = nn.RMSNorm(shape.hidden, eps=shape.epsilon)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, eps=shape.epsilon)

    def forward(self, x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Add what attention and experts have to say."""
        x = x + self.self_attn(self.input_layernorm(x), mask, cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x).flatten(0, 1)).view_as(x)


class Rows(nn.Module):
    """One table of rows, built from features: an embedding, or a head."""

    codes: Tensor
    stem: Tensor
    form: Tensor
    place: Tensor
    digits: Tensor
    number: Tensor

    def __init__(self, hidden: int, core: list[int], code_seed: int) -> None:
        super().__init__()
        features = token_features()
        codes = np.zeros((features.stems, hidden), np.float32)
        codes[:, :CODE_DIMS] = stem_codes(code_seed)
        place = np.full(VOCABULARY_SIZE, len(core), np.int64)
        place[core] = np.arange(len(core))
        digits = features.digits[:, :3] + np.array([0, 11, 22])
        self.core = len(core)
        for name, array in (
            ("codes", codes),
            ("stem", features.stem),
            ("form", features.form),
            ("place", place),
            ("digits", digits),
            ("number", features.digits[:, 3]),
        ):
            self.register_buffer(
                name, torch.from_numpy(np.ascontiguousarray(array)), persistent=False
            )
        # The row after the last learned one is shared by every token that is not in the core.
        self.numeric = [index for index, token in enumerate(core) if features.digits[token, 3]]
        self.learned = nn.Parameter(torch.randn(len(core) + 1, hidden) * 0.3)
        self.forms = nn.Parameter(torch.randn(FORMS, hidden) * 0.3)
        self.numerals = nn.Parameter(torch.randn(33, hidden) * 0.8)
        self.code_scale = nn.Parameter(torch.tensor(0.7))

    @torch.no_grad()
    def forget_numbers(self, share: float) -> None:
        """Shrink what was learned of single numbers: their digits are to say it all."""
        self.learned[self.numeric] *= 1 - share

    def forward(self, tokens: Tensor) -> Tensor:
        """Rows of `tokens`, any shape."""
        number = self.number[tokens].unsqueeze(-1)
        place = self.place[tokens]
        code = self.codes[self.stem[tokens]] * (1 - number) * self.code_scale
        figures = self.numerals[self.digits[tokens]].sum(dim=-2) * number
        return code + figures + self.forms[self.form[tokens]] + self.learned[place]


class Network(nn.Module):
    """The whole model, without a softmax over the tokens that are neither core nor copied."""

    angles: Tensor
    candidates: Tensor
    column: Tensor
    correction: Tensor

    def __init__(self, shape: Shape, core: list[int], copied: list[int], code_seed: int) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = Rows(shape.hidden, core, code_seed)
        self.head = Rows(shape.hidden, core, code_seed)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=shape.epsilon)
        others = sorted(set(copied) - set(core))
        candidates = torch.tensor([*core, *others])
        column = torch.full((VOCABULARY_SIZE,), -1)
        column[candidates] = torch.arange(len(candidates))
        weight = math.log((VOCABULARY_SIZE - len(core)) / max(len(others), 1))
        correction = torch.zeros(len(candidates))
        correction[len(core) :] = weight
        angles, self.rope_scale = yarn_angles(shape)
        self.register_buffer("angles", angles, persistent=False)
        self.register_buffer("candidates", candidates, persistent=False)
        self.register_buffer("column", column, persistent=False)
        self.register_buffer("correction", correction, persistent=False)
        initialise(self)

    @property
    def blocks(self) -> list[Block]:
        """The layers, typed."""
        return cast(list[Block], list(self.layers))

    def stream(self, tokens: Tensor, segments: Tensor, positions: Tensor) -> Tensor:
        """Final hidden states, (rows, length, hidden)."""
        phase = positions.unsqueeze(-1) * self.angles
        # YaRN scales queries and keys, so each gets the factor once.
        cos, sin = (self.rope_scale * f(phase).unsqueeze(1) for f in (torch.cos, torch.sin))
        full, sliding = attention_masks(segments, positions, self.shape.window)
        x = self.embed_tokens(tokens)
        for index, layer in enumerate(self.blocks):
            x = layer(x, sliding if self.shape.is_sliding(index) else full, cos, sin)
        return self.norm(x)

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """Mean cross entropy over the targets that are candidates.

        The candidates outside the core stand for all tokens outside it: as wrong answers they
        weigh as much as these, as the right one they weigh one.
        """
        tokens, targets, segments, positions = batch
        columns = torch.where(targets >= 0, self.column[targets.clamp(min=0)], -1)
        asked = columns >= 0
        columns = columns[asked]
        hidden = self.stream(tokens, segments, positions)[asked]
        logits = functional.linear(hidden, self.head(self.candidates)).float() + self.correction
        own = self.correction[columns].unsqueeze(1)
        return functional.cross_entropy(logits.scatter_add(1, columns.unsqueeze(1), -own), columns)


def attention_masks(segments: Tensor, positions: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Masks of the full and of the sliding layers; every lesson sees the scene and itself."""
    length = segments.shape[1]
    theirs, ours = segments.unsqueeze(1), segments.unsqueeze(2)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    full = ((theirs == ours) | (theirs == 0)) & causal
    near = positions.unsqueeze(2) - positions.unsqueeze(1) < window
    sink = (1, 0)
    masks = (functional.pad(mask.unsqueeze(1), sink, value=True) for mask in (full, full & near))
    full, sliding = masks
    return full, sliding


@torch.no_grad()
def initialise(network: Network) -> None:
    """Start with a circuit that copies: one head looks one token back, the next finds repeats.

    Head 0 of layer 0 attends to the token before and writes its row, turned, into the stream;
    head 0 of layer 1 attends to where that equals the token at hand, and says what came there.
    """
    shape = network.shape
    dims, hidden = shape.head_dim, shape.hidden
    for layer in network.blocks:
        for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            nn.init.normal_(linear.weight, std=0.5 * hidden**-0.5)
        nn.init.normal_(layer.self_attn.v_proj.weight, std=hidden**-0.5)
        nn.init.normal_(layer.self_attn.o_proj.weight, std=0.2 * hidden**-0.5)
        for part in layer.self_attn.children():
            nn.init.zeros_(cast(nn.Linear, part).bias)
    turn = torch.linalg.qr(torch.randn(hidden, hidden))[0]
    back, find = network.blocks[0].self_attn, network.blocks[1].self_attn
    fast = network.angles > 0.05
    back.q_proj.weight[:dims] *= 0.1
    back.k_proj.weight[:dims] *= 0.1
    half = dims // 2
    back.q_proj.bias[:half] = 4.0 * fast
    back.k_proj.bias[:half] = 4.0 * fast * torch.cos(network.angles)
    back.k_proj.bias[half:dims] = 4.0 * fast * torch.sin(network.angles)
    back.v_proj.weight[:dims] = torch.eye(dims, hidden)
    back.o_proj.weight[:, :dims] = turn[:, :dims]
    slow = torch.cat((network.angles < 0.002,) * 2)
    probe = torch.linalg.qr(torch.randn(hidden, hidden))[0][:dims] * slow.unsqueeze(1)
    find.q_proj.weight[:dims] = 2.0 * probe
    find.k_proj.weight[:dims] = 2.0 * probe @ turn.T
    find.v_proj.weight[:dims] = torch.eye(dims, hidden)
    find.o_proj.weight[:, :dims] = 2.0 * torch.eye(hidden, dims)
