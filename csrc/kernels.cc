// The kernels. Compiled once for each instruction set, each time in a namespace of its own.
#ifndef GRADREACH_ISA
#define GRADREACH_ISA baseline
#endif
#define GRADREACH_TEXT_(name) #name
#define GRADREACH_TEXT(name) GRADREACH_TEXT_(name)

#include "gram.h"
#include "linear.h"
#include "products.h"
#include "rows.h"
#include "run_layer.h"
#include "scan.h"
#include "terms.h"

namespace gradreach {
namespace GRADREACH_ISA {

namespace {

template <class T>
int64_t reserve(const Layer& a, int64_t rows) {
  return Shape<T>(a).kept * rows;
}

}  // namespace

const KernelTable& table() {
  static const KernelTable kTable{GRADREACH_TEXT(GRADREACH_ISA),
                                  kVectorBytes,
                                  forward<float>,
                                  forward<double>,
                                  backward<float>,
                                  backward<double>,
                                  reserve<float>,
                                  reserve<double>,
                                  scan_panels,
                                  scan_left,
                                  scan_pack<float>,
                                  scan_pack<double>,
                                  scan<float>,
                                  scan<double>,
                                  terms<float>,
                                  terms<double>,
                                  terms_along<float>,
                                  terms_along<double>,
                                  products,
                                  gram_norms,
                                  row_norms<float>,
                                  row_norms<double>,
                                  unit_sums<float>,
                                  unit_sums<double>,
                                  linear<float>,
                                  linear<double>,
                                  gates<float>,
                                  gates<double>,
                                  distance<float, float>,
                                  distance<double, double>,
                                  distance<double, float>,
                                  scale_rows};
  return kTable;
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
