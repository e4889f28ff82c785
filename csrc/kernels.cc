// The kernels. Compiled once for each instruction set, each time in a namespace of its own.
#ifndef GRADREACH_ISA
#define GRADREACH_ISA baseline
#endif
#define GRADREACH_TEXT_(name) #name
#define GRADREACH_TEXT(name) GRADREACH_TEXT_(name)

#include "run_layer.h"

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
                                  reserve<double>};
  return kTable;
}

}  // namespace GRADREACH_ISA
}  // namespace gradreach
