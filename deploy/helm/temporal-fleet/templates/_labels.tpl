{{/*
Labels of an object. Argument: a dict of root and component; also extra, more labels.
Common labels never replace the chart's own.
*/}}
{{- define "temporal-fleet.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_")
  "app.kubernetes.io/name" (include "temporal-fleet.app" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/component" .component
  "app.kubernetes.io/part-of" "temporal-fleet"
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
-}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) (.extra | default dict) $own) -}}
{{- end -}}

{{/*
Labels of a pod: without those that change with the chart, or every upgrade of the chart would restart every worker.
Argument: as for labels.
*/}}
{{- define "temporal-fleet.pod-labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "temporal-fleet.app" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/component" .component
  "app.kubernetes.io/part-of" "temporal-fleet"
-}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) (.extra | default dict) $own) -}}
{{- end -}}

{{/*
What selects pods, and never changes. Argument: a dict of root and component; build, when pods of one build are meant.
*/}}
{{- define "temporal-fleet.selector-labels" -}}
app.kubernetes.io/name: {{ include "temporal-fleet.app" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component | quote }}
{{- with .build }}
temporal-fleet/build: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "temporal-fleet.app" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end -}}

{{/*
A Temporal name as the value of a label, which admits fewer characters.
*/}}
{{- define "temporal-fleet.label-value" -}}
{{- regexReplaceAll "[^A-Za-z0-9_.-]" . "_" | trunc 63 | trimAll "-_." -}}
{{- end -}}
