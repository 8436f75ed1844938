// SPDX-License-Identifier: Apache-2.0
// What our products say in the words of cuBLASLt, read back from its descriptors and computed as its header defines
// them, equals the row-major definition. Descriptors need no device; the choice of an algorithm does.
#include <cmath>
#include <numbers>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/matmul_descriptor_cuda.h"

namespace farsight::cuda {
namespace {

using Vec = std::vector<double>;

const double kRoot = std::sqrt(2.0 / std::numbers::pi);
double gelu(double x) { return 0.5 * x * (1.0 + std::tanh(kRoot * (x + 0.044715 * x * x * x))); }
double slope(double x) { return (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5; }

template <class Value>
Value attribute(const MatmulDescriptor& d, cublasLtMatmulDescAttributes_t what) {
  Value value{};
  size_t written = 0;
  EXPECT_EQ(cublasLtMatmulDescGetAttribute(d.operation.get(), what, &value, sizeof(value), &written),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(written, sizeof(value));
  return value;
}

struct Layout {
  int64_t rows, cols, stride;
  cudaDataType_t type;

  explicit Layout(const MatmulHandle<cublasLtMatrixLayout_t>& layout)
      : rows(static_cast<int64_t>(read<uint64_t>(layout, CUBLASLT_MATRIX_LAYOUT_ROWS))),
        cols(static_cast<int64_t>(read<uint64_t>(layout, CUBLASLT_MATRIX_LAYOUT_COLS))),
        stride(read<int64_t>(layout, CUBLASLT_MATRIX_LAYOUT_LD)),
        type(static_cast<cudaDataType_t>(read<uint32_t>(layout, CUBLASLT_MATRIX_LAYOUT_TYPE))) {
    EXPECT_EQ(read<int32_t>(layout, CUBLASLT_MATRIX_LAYOUT_ORDER), CUBLASLT_ORDER_COL);
    EXPECT_GE(stride, rows);
  }
  template <class Value>
  static Value read(const MatmulHandle<cublasLtMatrixLayout_t>& layout, cublasLtMatrixLayoutAttribute_t what) {
    Value value{};
    size_t written = 0;
    EXPECT_EQ(cublasLtMatrixLayoutGetAttribute(layout.get(), what, &value, sizeof(value), &written),
              CUBLAS_STATUS_SUCCESS);
    return value;
  }
};

// Column-major, as the header says; numbers are doubles in the place of the elements.
void interpret(const MatmulDescriptor& d, const double* a, const double* b, double* c) {
  const Layout la(d.a), lb(d.b), lc(d.c);
  const bool ta = attribute<int32_t>(d, CUBLASLT_MATMUL_DESC_TRANSA) == CUBLAS_OP_T;
  const bool tb = attribute<int32_t>(d, CUBLASLT_MATMUL_DESC_TRANSB) == CUBLAS_OP_T;
  const auto epilogue = attribute<uint32_t>(d, CUBLASLT_MATMUL_DESC_EPILOGUE);
  const int64_t k = ta ? la.rows : la.cols;
  ASSERT_EQ(ta ? la.cols : la.rows, lc.rows);
  ASSERT_EQ(tb ? lb.cols : lb.rows, k);
  ASSERT_EQ(tb ? lb.rows : lb.cols, lc.cols);
  const double* bias = nullptr;
  double* aux = nullptr;
  int64_t aux_stride = 0;
  if ((epilogue & CUBLASLT_EPILOGUE_BIAS) != 0) {
    bias = attribute<const double*>(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
    EXPECT_EQ(attribute<int32_t>(d, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE), static_cast<int32_t>(la.type));
  }
  if ((epilogue & 128) != 0) {
    aux = attribute<double*>(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER);
    aux_stride = attribute<int64_t>(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD);
    ASSERT_GE(aux_stride, lc.rows);
    ASSERT_EQ(aux_stride % 8, 0);
    EXPECT_EQ(attribute<int32_t>(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE), static_cast<int32_t>(lc.type));
  }
  for (int64_t col = 0; col < lc.cols; ++col) {
    for (int64_t row = 0; row < lc.rows; ++row) {
      double sum = bias == nullptr ? 0.0 : bias[row];
      for (int64_t l = 0; l < k; ++l) {
        sum += a[ta ? l + row * la.stride : row + l * la.stride] * b[tb ? col + l * lb.stride : l + col * lb.stride];
      }
      double& to = c[row + col * lc.stride];
      switch (epilogue) {
        case CUBLASLT_EPILOGUE_DEFAULT:
        case CUBLASLT_EPILOGUE_BIAS:
          to = sum;
          break;
        case CUBLASLT_EPILOGUE_GELU_AUX:
        case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
          aux[row + col * aux_stride] = sum;
          to = gelu(sum);
          break;
        case CUBLASLT_EPILOGUE_DGELU:
          to = sum * slope(aux[row + col * aux_stride]);
          break;
        default:
          FAIL() << "epilogue " << epilogue;
      }
    }
  }
}

Vec random(uint64_t seed, int64_t count) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  Vec v(static_cast<size_t>(count));
  for (auto& x : v) x = normal(engine);
  return v;
}

struct Memory {
  Vec a, b, c, bias, aux;

  explicit Memory(const CudaMatmul& p)
      : a(random(1, (p.trans_a == Transpose::yes ? p.k : p.m) * p.lda)),
        b(random(2, (p.trans_b == Transpose::yes ? p.n : p.k) * p.ldb)),
        c(static_cast<size_t>(p.m * p.ldc), -9.0),
        bias(random(3, p.n)),
        aux(random(4, p.m * p.aux_stride)) {}
};

// The definition of CudaMatmul.
void define(const CudaMatmul& p, Memory& memory) {
  const bool ta = p.trans_a == Transpose::yes, tb = p.trans_b == Transpose::yes;
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      double sum = p.bias == nullptr ? 0.0 : memory.bias[static_cast<size_t>(j)];
      for (int64_t l = 0; l < p.k; ++l) {
        sum += memory.a[static_cast<size_t>(ta ? l * p.lda + i : i * p.lda + l)] *
               memory.b[static_cast<size_t>(tb ? j * p.ldb + l : l * p.ldb + j)];
      }
      double& aux = memory.aux[static_cast<size_t>(i * p.aux_stride + j)];
      double& c = memory.c[static_cast<size_t>(i * p.ldc + j)];
      if (p.epilogue == MatmulEpilogue::gelu) aux = sum;
      c = p.epilogue == MatmulEpilogue::gelu            ? gelu(sum)
          : p.epilogue == MatmulEpilogue::gelu_gradient ? sum * slope(aux)
                                                        : sum;
    }
  }
}

void expect_equal(const Vec& got, const Vec& expected, const char* what) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-9) << what << " " << i;
}

TEST(MatmulDescriptor, MeansTheRowMajorProduct) {
  for (const auto epilogue : {MatmulEpilogue::none, MatmulEpilogue::gelu, MatmulEpilogue::gelu_gradient}) {
    for (const int bits : {0, 1, 2, 3, 4, 5, 6, 7}) {
      CudaMatmul p{};
      p.trans_a = Transpose{(bits & 1) != 0};
      p.trans_b = Transpose{(bits & 2) != 0};
      p.m = 5;
      p.n = 16;
      p.k = 24;
      p.lda = 24 + 8;
      p.ldb = 24 + 16;
      p.ldc = 16 + 8;
      p.type = p.c_type = DType::bf16;
      p.epilogue = epilogue;
      p.aux_stride = 16 + 24;
      Memory expected(p), memory(p);
      p.a = memory.a.data();
      p.b = memory.b.data();
      p.c = memory.c.data();
      if ((bits & 4) != 0 && epilogue != MatmulEpilogue::gelu_gradient) p.bias = memory.bias.data();
      if (epilogue != MatmulEpilogue::none) p.aux = memory.aux.data();
      MatmulDescriptor d;
      ASSERT_EQ(describe_matmul(p, d), CUBLAS_STATUS_SUCCESS);
      ASSERT_EQ(set_matmul_addresses(p, d), CUBLAS_STATUS_SUCCESS);
      EXPECT_EQ(attribute<int32_t>(d, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE), static_cast<int32_t>(CUBLAS_COMPUTE_32F));
      EXPECT_EQ(Layout(d.a).type, CUDA_R_16BF);
      EXPECT_EQ(Layout(d.c).type, CUDA_R_16BF);
      interpret(d, memory.b.data(), memory.a.data(), memory.c.data());
      define(p, expected);
      expect_equal(memory.c, expected.c, "c");
      expect_equal(memory.aux, expected.aux, "aux");
    }
  }
}

TEST(MatmulDescriptor, KeepsTheTypesOfWeightGradients) {
  CudaMatmul p{};
  p.trans_a = Transpose::yes;
  p.m = p.n = p.k = p.lda = p.ldb = p.ldc = 8;
  p.type = DType::bf16;
  p.c_type = DType::f32;
  MatmulDescriptor d;
  ASSERT_EQ(describe_matmul(p, d), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(Layout(d.a).type, CUDA_R_16BF);
  EXPECT_EQ(Layout(d.b).type, CUDA_R_16BF);
  EXPECT_EQ(Layout(d.c).type, CUDA_R_32F);
}

}  // namespace
}  // namespace farsight::cuda
