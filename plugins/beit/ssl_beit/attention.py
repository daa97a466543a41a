"""Self-attention with an additive bias, on the fastest way that the device has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ssl_beit.relative_position import bias_of

# A private name of torch, which a release may drop.
_NATIVE_BF16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Returns softmax(query @ key^T / sqrt(d) + bias) @ value, (B, H, L, d).

    Args:
        query, key, value: (B, H, L, d).
        bias: (1, H, L, L or more), float; columns beyond L are ignored. None = no bias.
    """
    if bias is not None:
        # In one dtype with the query: cuDNN reads a float32 bias beside bf16 queries as if it were bf16.
        bias = bias.to(query.dtype)[..., : key.shape[-2]]  # (1, H, L, L)
    if uses_explicit_attention(query):
        return explicit_attention(query, key, value, bias)
    if bias is not None and query.is_cuda and torch.is_grad_enabled():
        return chosen_attention(query, key, value, bias)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def chosen_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """`attend` as one fused call, with the kernels that can be trusted with a bias and a gradient."""
    with sdpa_kernel(training_backends(query, bias)):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)  # (B, H, L, d)


def training_backends(query: Tensor, bias: Tensor) -> list[SDPBackend]:
    """Returns the fused kernels that may be used on a GPU with a bias, where there is a gradient.

    Never cuDNN's: it has no gradient for a bias, so torch takes it for a frozen one alone, and its backward pass then
    gives NaN on an H100 where the length is 64 more than a multiple of 128, which 8x8 patches without CLS are. Nor the
    memory-efficient one where the bias alone has a gradient: it then writes outside of its memory.
    """
    if bias.requires_grad and not query.requires_grad:
        return [SDPBackend.MATH]
    return [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def uses_explicit_attention(query: Tensor) -> bool:
    """Returns whether plain matrix products beat `scaled_dot_product_attention` here.

    They do on CPUs: always in bf16 where the CPU multiplies it natively (1.6 to 4 times), and in float32
    when there is a gradient (a tenth), since torch's fused CPU kernel has no gradient for a bias.
    """
    if query.device.type != "cpu":
        return False
    if query.dtype == torch.bfloat16:
        return _NATIVE_BF16
    return torch.is_grad_enabled()


def explicit_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """`attend` as two matrix products and a softmax, in the dtype of the query."""
    # Autocast would take the softmax to float32 and back; the kernel sums in float32 anyway.
    with torch.autocast(query.device.type, enabled=False):
        return attention_weights(query, key, bias) @ value  # (B, H, L, d)


def attention_weights(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """Returns softmax(query @ key^T / sqrt(d) + bias), (B, H, L, L); bias (1, H, L, L)."""
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)  # (B, H, L, L)
    if bias is not None:
        logits = logits + bias
    return logits.softmax(dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention whose keys have no bias.

    Args:
        width: D.
        heads: H, a divisor of D.
        table_rows: T, for a relative-position table of its own; 0 = none.
    """

    def __init__(self, width: int, heads: int, table_rows: int = 0):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(table_rows, heads)) if table_rows else None
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Attends.

        Args:
            x: (B, L, D).
            bias: as in `attend`.
            index: of `padded_index`; with a table of its own, in place of `bias`.

        Returns:
            (B, L, D).
        """
        out = attend(*self._qkv(x), self._bias(bias, index))  # (B, H, L, d)
        return self.proj(out.transpose(1, 2).reshape(x.shape))  # (B, L, D)

    def weights(self, x: Tensor, bias: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Returns what `forward` multiplies the values with, (B, H, L, L); its arguments are the same."""
        query, key, _ = self._qkv(x)
        bias = self._bias(bias, index)
        return attention_weights(query, key, None if bias is None else bias[..., : x.shape[1]])

    def _qkv(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns query, key and value of x (B, L, D), each (B, H, L, d)."""
        batch, length, width = x.shape
        qkv_bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])  # (3 * D)
        qkv = F.linear(x, self.qkv.weight, qkv_bias)  # (B, L, 3 * D)
        qkv = qkv.view(batch, length, 3, self.heads, width // self.heads)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)  # 3 of (B, H, L, d)

    def _bias(self, bias: Tensor | None, index: Tensor | None) -> Tensor | None:
        if self.relative_position_bias_table is None:
            return bias
        return bias_of(self.relative_position_bias_table, index)  # (1, H, L, padded)
