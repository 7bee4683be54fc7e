// The mixing of components in one pass over memory.
//
// mixed:  out_r = sum_j m[r, j] x_j        m: (R, n); x: (count, n, width); out: (count, R, width)
//
// A batched matrix product computes the same, as thousands of products too small for it. Here a block of x is read
// once, stays in the first-level cache for all R sums, and is written once.

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

namespace {

constexpr int64_t kBlock = 512;       // entries of a component that are mixed at a time: n of them fit the L1 cache
constexpr int64_t kGrain = 1 << 14;   // entries that are worth a thread

// One block: x and y point at it in component 0; components are x_step and y_step entries apart.
template <int N, typename T>
void mix_block(const at::opmath_type<T>* m, int64_t rank, const T* x, int64_t x_step, T* y, int64_t y_step,
               int64_t length) {
  using Sum = at::opmath_type<T>;
  for (int64_t r = 0; r < rank; ++r, m += N, y += y_step) {
    for (int64_t i = 0; i < length; ++i) {
      Sum sum = m[0] * static_cast<Sum>(x[i]);
      for (int j = 1; j < N; ++j) sum += m[j] * static_cast<Sum>(x[j * x_step + i]);
      y[i] = static_cast<T>(sum);
    }
  }
}

template <typename T>
void mix_block_of(int64_t n, const at::opmath_type<T>* m, int64_t rank, const T* x, int64_t x_step, T* y,
                  int64_t y_step, int64_t length) {
  using Sum = at::opmath_type<T>;
  switch (n) {
    case 2: return mix_block<2, T>(m, rank, x, x_step, y, y_step, length);
    case 3: return mix_block<3, T>(m, rank, x, x_step, y, y_step, length);
    case 4: return mix_block<4, T>(m, rank, x, x_step, y, y_step, length);
    case 5: return mix_block<5, T>(m, rank, x, x_step, y, y_step, length);
    case 6: return mix_block<6, T>(m, rank, x, x_step, y, y_step, length);
    case 7: return mix_block<7, T>(m, rank, x, x_step, y, y_step, length);
    case 8: return mix_block<8, T>(m, rank, x, x_step, y, y_step, length);
  }
  Sum sums[kBlock];
  for (int64_t r = 0; r < rank; ++r, m += n, y += y_step) {
    std::fill(sums, sums + length, Sum(0));
    for (int64_t j = 0; j < n; ++j) {
      const Sum factor = m[j];
      if (factor == Sum(0)) continue;
      for (int64_t i = 0; i < length; ++i) sums[i] += factor * static_cast<Sum>(x[j * x_step + i]);
    }
    for (int64_t i = 0; i < length; ++i) y[i] = static_cast<T>(sums[i]);
  }
}

// m by rows, in the dtype that sums are taken in
template <typename T>
std::vector<at::opmath_type<T>> factors_of(const at::Tensor& m) {
  const T* values = m.const_data_ptr<T>();
  std::vector<at::opmath_type<T>> factors;
  factors.reserve(m.numel());
  for (int64_t r = 0; r < m.size(0); ++r) {
    for (int64_t j = 0; j < m.size(1); ++j) factors.push_back(values[r * m.stride(0) + j * m.stride(1)]);
  }
  return factors;
}

bool by_pixel(const at::Tensor& x) {
  if (x.is_contiguous()) return false;
  return (x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast)) ||
         (x.dim() == 5 && x.is_contiguous(at::MemoryFormat::ChannelsLast3d));
}

at::MemoryFormat format_of(const at::Tensor& x) {
  if (!by_pixel(x)) return at::MemoryFormat::Contiguous;
  return x.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::ChannelsLast3d;
}

void check(const at::Tensor& m, const at::Tensor& x) {
  TORCH_CHECK(m.dim() == 2 && x.dim() >= 2, "mixed takes a matrix (R, n) and x (batch, n w, *size)");
  TORCH_CHECK(x.size(1) % m.size(1) == 0, "mixed: ", m.size(1), " components do not divide ", x.size(1), " channels");
  TORCH_CHECK(m.scalar_type() == x.scalar_type(), "mixed: m is ", m.scalar_type(), ", x is ", x.scalar_type());
}

void mix_to(const at::Tensor& m, const at::Tensor& x, const at::Tensor& y) {
  const int64_t n = m.size(1), rank = m.size(0), channels = x.size(1);
  const bool pixels = by_pixel(x);
  const int64_t places = x.numel() / std::max<int64_t>(1, x.size(0) * channels);
  const int64_t rows = pixels ? x.size(0) * places : x.size(0);
  const int64_t width = pixels ? channels / n : channels / n * places;
  if (rows == 0 || width == 0) return;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "mixed", [&] {
    const auto factors = factors_of<scalar_t>(m);
    const scalar_t* from = x.const_data_ptr<scalar_t>();
    scalar_t* to = y.mutable_data_ptr<scalar_t>();
    // blocks of all rows, so that one large image is shared between threads as many small ones are
    const int64_t blocks = (width + kBlock - 1) / kBlock;
    const int64_t grain = std::max<int64_t>(1, kGrain / (n * std::min(width, kBlock)));
    at::parallel_for(0, rows * blocks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t row = block / blocks, start = block % blocks * kBlock;
        mix_block_of<scalar_t>(n, factors.data(), rank, from + row * n * width + start, width,
                               to + row * rank * width + start, width, std::min(kBlock, width - start));
      }
    });
  });
}

at::Tensor mixed(const at::Tensor& m, const at::Tensor& given) {
  check(m, given);
  const auto format = format_of(given);
  const auto x = given.contiguous(format);
  auto size = x.sizes().vec();
  size[1] = size[1] / m.size(1) * m.size(0);
  auto y = at::empty(size, x.options().memory_format(format));
  mix_to(m, x, y);
  return y;
}

// Into y, which has x's memory format.
void mixed_into(const at::Tensor& m, const at::Tensor& given, const at::Tensor& y) {
  check(m, given);
  const auto format = format_of(y);
  TORCH_CHECK(y.is_contiguous(format), "mixed_into: y is neither contiguous nor channels_last");
  TORCH_CHECK(y.size(1) * m.size(1) == given.size(1) * m.size(0), "mixed_into: y has ", y.size(1), " channels");
  const auto x = given.contiguous(format);
  if (by_pixel(x) == by_pixel(y)) return mix_to(m, x, y);
  y.copy_(mixed(m, x));  // one pixel or one channel: both formats at once
}

}  // namespace

TORCH_LIBRARY(phnn, library) {
  library.def("mixed(Tensor m, Tensor x) -> Tensor");
  library.def("mixed_into(Tensor m, Tensor x, Tensor(a!) y) -> ()");
}

TORCH_LIBRARY_IMPL(phnn, CPU, library) {
  library.impl("mixed", &mixed);
  library.impl("mixed_into", &mixed_into);
}
